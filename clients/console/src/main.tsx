import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { Texts } from "./text/texts";
import { App } from "./ui/app";
import "../../app/src/styles/base.css";
import "./styles/console.css";

// The console has no worker: one of another page that was at this local address before would see all that it asks.
await withoutWorkers();
const texts = await Texts.load(navigator.languages);
createRoot(document.getElementById("root")!).render(
    <StrictMode>
        <App texts={texts} />
    </StrictMode>,
);

async function withoutWorkers(): Promise<void> {
    if (!("serviceWorker" in navigator)) return;
    const { serviceWorker } = navigator;
    const left = await serviceWorker.getRegistrations().catch(() => []);
    const ended = await Promise.all(left.map((registration) => registration.unregister().catch(() => false)));
    // It stays in charge of this page until the next load. One that does not go is not waited for again and again.
    if (serviceWorker.controller && ended.length > 0 && ended.every(Boolean)) {
        location.reload();
        await new Promise(() => undefined);
    }
}

import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { loadConfig } from "./config";
import { installed } from "./installed";
import { Preferences } from "./preferences";
import { SignIn } from "./sign-in";
import { bestLanguage, Texts } from "./text/texts";
import { App } from "./ui/app";
import "./styles/base.css";
import "./styles/chat.css";
import "./styles/panels.css";
import "./styles/features.css";

const preferences = new Preferences();
const root = document.getElementById("root")!;

async function start(): Promise<void> {
    const texts = await Texts.load(bestLanguage(preferences.language, navigator.languages));
    try {
        const signIn = new SignIn(await loadConfig());
        createRoot(root).render(
            <StrictMode>
                <App signIn={signIn} preferences={preferences} firstTexts={texts} />
            </StrictMode>,
        );
    } catch {
        // Without it there is nothing to show; the same address may answer in a moment.
        root.textContent = texts.of("error.unreachable");
        setTimeout(() => location.reload(), 10_000);
    }
}

void start();
// A page that the browser has kept and comes back to has left its work to others.
window.addEventListener("pageshow", ({ persisted }) => persisted && location.reload());
// What is being developed is not kept.
if (import.meta.env.PROD) void installed.install();

import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { Texts } from "./text/texts";
import { App } from "./ui/app";
import "../../app/src/styles/base.css";
import "./styles/console.css";

const texts = await Texts.load(navigator.languages);
createRoot(document.getElementById("root")!).render(
    <StrictMode>
        <App texts={texts} />
    </StrictMode>,
);

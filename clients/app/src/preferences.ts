// How this browser shows the messenger. It concerns the device and not the account, and is no secret.
import { Source } from "./shared/source";

const KEY = "posthouse.preferences";

export const THEMES = ["system", "light", "dark"] as const;
export type Theme = (typeof THEMES)[number];

type Values = { language?: string; theme: Theme; notifies: boolean; showsPreviews: boolean };

export class Preferences extends Source {
    #values: Values = { theme: "system", notifies: false, showsPreviews: true };

    constructor() {
        super();
        this.#read();
        // Another tab has changed them.
        window.addEventListener("storage", ({ key }) => {
            if (key !== KEY) return;
            this.#read();
            this.changed();
        });
    }

    /** The tag that the user chose; the browser's languages decide when absent. */
    get language(): string | undefined {
        return this.#values.language;
    }

    get theme(): Theme {
        return this.#values.theme;
    }

    /** Whether the user wants notifications; the browser may not permit them. */
    get notifies(): boolean {
        return this.#values.notifies;
    }

    /** Whether messages show what the pages behind their links say. */
    get showsPreviews(): boolean {
        return this.#values.showsPreviews;
    }

    set(values: Partial<Values>): void {
        this.#values = { ...this.#values, ...values };
        localStorage.setItem(KEY, JSON.stringify(this.#values));
        this.changed("at once");
    }

    #read(): void {
        try {
            const { language, theme, notifies, showsPreviews } = JSON.parse(
                localStorage.getItem(KEY) ?? "{}",
            ) as Record<string, unknown>;
            this.#values = {
                ...(typeof language === "string" && { language }),
                theme: THEMES.find((known) => known === theme) ?? "system",
                notifies: notifies === true,
                showsPreviews: showsPreviews !== false,
            };
        } catch {
            // What is not readable is as if it was not there.
        }
    }
}

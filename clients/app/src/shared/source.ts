// What components see of the state: that it changed. They read it where it is, and keep no copy.
import { useSyncExternalStore } from "react";

/** Changes within this time are shown together: a burst of messages is one render and not two hundred. */
const GATHER_MS = 16;

/** A part of the state that tells when it has changed. */
export class Source {
    #version = 0;
    #timer: ReturnType<typeof setTimeout> | undefined;
    readonly #listeners = new Set<() => void>();

    /** Counts the changes. */
    get version(): number {
        return this.#version;
    }

    /** Calls `listener` after changes, until the returned function is called. */
    readonly subscribe = (listener: () => void): (() => void) => {
        this.#listeners.add(listener);
        return () => this.#listeners.delete(listener);
    };

    /** Tells the listeners: with what else changes in a moment, or at once. */
    protected changed(when: "gathered" | "at once" = "gathered"): void {
        this.#version += 1;
        if (when === "at once") this.#tell();
        else this.#timer ??= setTimeout(() => this.#tell(), GATHER_MS);
    }

    #tell(): void {
        clearTimeout(this.#timer);
        this.#timer = undefined;
        for (const listener of [...this.#listeners]) listener();
    }
}

/** Renders the component again when a part of the state has changed, and returns that part. */
export function useSource<S extends Source>(source: S): S {
    useSyncExternalStore(source.subscribe, () => source.version);
    return source;
}

// The tabs of one browser share what it keeps of a user: what one has to do once, one of them does, and what one writes the others show.
import type { Draft } from "./kept";

/** What one tab tells the others. */
export type Word = { draft: Draft; chat: string };

type Said = { opened: string } | Word;

/** The open tabs of a user in this browser. Where it has no locks, each tab is as if it were alone. */
export class Tabs {
    readonly id = crypto.randomUUID();
    /** A tab is there no more, and what it had to do is nobody's. */
    onGone: () => void = () => undefined;
    onWord: (word: Word) => void = () => undefined;
    readonly #prefix: string;
    readonly #channel: BroadcastChannel | undefined;
    readonly #over = new AbortController();

    private constructor(user: string) {
        this.#prefix = `posthouse/${user}`;
        if (!("BroadcastChannel" in globalThis)) return;
        this.#channel = new BroadcastChannel(this.#prefix);
        this.#channel.onmessage = ({ data }: MessageEvent<Said>) => {
            if ("opened" in data) this.#watch(data.opened);
            else this.onWord(data);
        };
    }

    /** Opens this tab for the others. */
    static async open(user: string): Promise<Tabs> {
        const tabs = new Tabs(user);
        await tabs.#hold(tabs.#lockOf(tabs.id));
        for (const tab of (await tabs.living()) ?? []) if (tab !== tabs.id) tabs.#watch(tab);
        tabs.#channel?.postMessage({ opened: tabs.id } satisfies Said);
        // A browser may keep a page that it left, with its locks, to come back to it.
        window.addEventListener("pagehide", () => tabs.close(), { signal: tabs.#over.signal });
        return tabs;
    }

    /** Returns the ids of the open tabs, this one among them; nothing where that is not known. */
    async living(): Promise<Set<string> | undefined> {
        if (!navigator.locks) return undefined;
        const begin = this.#lockOf("");
        const { held = [] } = await navigator.locks.query();
        const names = held.flatMap(({ name }) => (name?.startsWith(begin) ? [name.slice(begin.length)] : []));
        return new Set(names);
    }

    /** Does something while no other tab does something of this name. */
    async alone<T>(name: string, what: () => Promise<T>): Promise<T> {
        if (!navigator.locks) return what();
        return navigator.locks.request(`${this.#prefix}/${name}`, what) as Promise<T>;
    }

    /** Resolves once this tab is the one that does something, until it is closed. It may be never. */
    async elected(name: string): Promise<void> {
        await this.#hold(`${this.#prefix}/${name}`);
    }

    /** Tells the other tabs. */
    tell(word: Word): void {
        if (!this.#over.signal.aborted) this.#channel?.postMessage(word satisfies Said);
    }

    /** Leaves what this tab had to do to the others. */
    close(): void {
        if (this.#over.signal.aborted) return;
        this.#over.abort();
        this.#channel?.close();
    }

    /** Resolves once it has a lock, which it keeps until it is closed. */
    #hold(name: string): Promise<void> {
        if (!navigator.locks) return Promise.resolve();
        const { signal } = this.#over;
        return new Promise((resolve) => {
            const held = () =>
                new Promise<void>((release) => {
                    resolve();
                    if (signal.aborted) release();
                    signal.addEventListener("abort", () => release());
                });
            // It rejects when this tab is closed before.
            navigator.locks.request(name, { signal }, held).catch(() => undefined);
        });
    }

    /** The lock of another tab is free when that tab is gone, however it went. */
    #watch(tab: string): void {
        if (!navigator.locks) return;
        const { signal } = this.#over;
        navigator.locks.request(this.#lockOf(tab), { signal }, () => this.onGone()).catch(() => undefined);
    }

    #lockOf(tab: string): string {
        return `${this.#prefix}/tab/${tab}`;
    }
}

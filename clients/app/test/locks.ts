// The locks of a browser, of which a test closes tabs. happy-dom has none.

type Held = { name: string; release: () => void };
type Waiting = { name: string; take: () => void };

export class FakeLocks {
    #held: Held[] = [];
    #waiting: Waiting[] = [];

    install(): void {
        Object.defineProperty(navigator, "locks", { configurable: true, value: this });
    }

    static remove(): void {
        Reflect.deleteProperty(navigator, "locks");
    }

    async query(): Promise<{ held: { name: string }[] }> {
        return { held: this.#held.map(({ name }) => ({ name })) };
    }

    request(name: string, ...rest: unknown[]): Promise<unknown> {
        const what = rest.at(-1) as (lock: unknown) => Promise<unknown>;
        const { signal, ifAvailable } = (rest.length > 1 ? rest[0] : {}) as LockOptions;
        if (ifAvailable && this.#isHeld(name)) return Promise.resolve(what(null));
        return new Promise((resolve, reject) => {
            const waiting: Waiting = {
                name,
                take: () => {
                    const held: Held = { name, release: () => this.#release(held) };
                    this.#held.push(held);
                    Promise.resolve(what({ name })).then(resolve, reject).finally(held.release);
                },
            };
            signal?.addEventListener("abort", () => {
                if (!this.#waiting.includes(waiting)) return;
                this.#waiting = this.#waiting.filter((other) => other !== waiting);
                reject(signal.reason);
            });
            this.#waiting.push(waiting);
            this.#grant();
        });
    }

    /** A tab is gone without a word: the browser frees its locks. */
    kill(tab: string): void {
        for (const held of this.#held.filter(({ name }) => name.endsWith(tab))) held.release();
    }

    #isHeld(name: string): boolean {
        return this.#held.some((held) => held.name === name);
    }

    #release(held: Held): void {
        this.#held = this.#held.filter((other) => other !== held);
        this.#grant();
    }

    #grant(): void {
        for (const waiting of this.#waiting) {
            if (this.#isHeld(waiting.name)) continue;
            this.#waiting = this.#waiting.filter((other) => other !== waiting);
            waiting.take();
        }
    }
}

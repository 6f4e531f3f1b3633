// Reads of one thing that may overlap.

/** Reads one thing, as often as is asked. Of reads that overlap the newest counts: the answer of an older one may be of before a change. */
export class Reading {
    readonly #read: (isNewest: () => boolean) => Promise<void>;
    #newest = 0;
    /** The newest one, under way or over: who waits for an older one learns of its fault, whichever ends first. */
    #last = Promise.resolve();
    #isUnderWay = false;

    /** `read` takes its answers as long as `isNewest` says so, and leaves them otherwise. */
    constructor(read: (isNewest: () => boolean) => Promise<void>) {
        this.#read = read;
    }

    /** Reads, or waits for the answer that is under way. */
    join(): Promise<void> {
        return this.#isUnderWay ? this.#last : this.again();
    }

    /** Reads again. Who waits for an older answer waits for this one. */
    again(): Promise<void> {
        const number = ++this.#newest;
        this.#isUnderWay = true;
        this.#last = this.#run(() => number === this.#newest);
        return this.#last;
    }

    /** Notes a change that is known here: an answer that is under way may be of before it, and is asked for again. */
    outdate(): void {
        // Who waits for the answer learns of a fault.
        if (this.#isUnderWay) this.again().catch(() => undefined);
    }

    async #run(isNewest: () => boolean): Promise<void> {
        try {
            await this.#read(isNewest);
        } catch (error) {
            if (isNewest()) throw error;
        } finally {
            if (isNewest()) this.#isUnderWay = false;
        }
        if (!isNewest()) await this.#last;
    }
}

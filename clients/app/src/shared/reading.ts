// Reads of one thing that may overlap.

/** Reads one thing, as often as is asked. Of reads that overlap the newest counts: the answer of an older one may be of before a change. */
export class Reading {
    readonly #read: (isNewest: () => boolean) => Promise<void>;
    #newest = 0;
    #underWay: Promise<void> | undefined;

    /** `read` takes its answers as long as `isNewest` says so, and leaves them otherwise. */
    constructor(read: (isNewest: () => boolean) => Promise<void>) {
        this.#read = read;
    }

    /** Reads, or waits for the answer that is under way. */
    join(): Promise<void> {
        return this.#underWay ?? this.again();
    }

    /** Reads anew. Who waits for an older answer waits for this one. */
    again(): Promise<void> {
        const number = ++this.#newest;
        this.#underWay = this.#run(() => number === this.#newest);
        return this.#underWay;
    }

    /** Notes a change that is known here: an answer that is under way may be of before it, and is asked for again. */
    outdate(): void {
        // Who waits for the answer learns of a fault.
        if (this.#underWay) this.again().catch(() => undefined);
    }

    async #run(isNewest: () => boolean): Promise<void> {
        try {
            await this.#read(isNewest);
        } catch (error) {
            if (isNewest()) throw error;
        } finally {
            if (isNewest()) this.#underWay = undefined;
        }
        if (!isNewest()) await this.#underWay;
    }
}

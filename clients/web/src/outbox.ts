// What was sent and is not known to be stored, kept over connections and, by a store of the program, over restarts.
import type { Outgoing } from "./machine.js";

/** Keeps the messages of one user that are not known to be stored, in IndexedDB or a file for example. */
export interface Outbox {
    /** Returns what it has, in the order in which it was put. */
    load(): Promise<Outgoing[]>;
    /** Keeps a message before it is sent. One with the same key is replaced. */
    put(outgoing: Outgoing): Promise<void>;
    /** Forgets a message that is stored or refused. */
    remove(key: string): Promise<void>;
}

/** An outbox that lasts as long as the process. */
export class MemoryOutbox implements Outbox {
    readonly #kept = new Map<string, Outgoing>();

    async load(): Promise<Outgoing[]> {
        return [...this.#kept.values()];
    }

    async put(outgoing: Outgoing): Promise<void> {
        this.#kept.set(outgoing.key, outgoing);
    }

    async remove(key: string): Promise<void> {
        this.#kept.delete(key);
    }
}

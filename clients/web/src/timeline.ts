// What a client has of one chat's log: every entry once, in order, and where the gaps are.
import type { Message } from "./generated/socket.js";

/** Entries kept while an earlier one is missing; beyond it the newest are dropped and come again by history. */
const MAX_HELD = 1_000;

/** The applied part of a chat is a prefix of its log; what lies beyond a gap waits. */
export class Timeline {
    #applied: number;
    #head: number;
    readonly #held = new Map<number, Message>();

    /** Creates a timeline that has everything up to and including `seq`. */
    constructor(seq: number) {
        this.#applied = seq;
        this.#head = seq;
    }

    /** The seq of the last applied entry. */
    get applied(): number {
        return this.#applied;
    }

    /** Whether an entry is known to exist that was not applied. */
    get hasGap(): boolean {
        return this.#applied < this.#head;
    }

    /** The entries beyond the gap, in order. */
    get held(): Message[] {
        return [...this.#held.values()].sort((one, other) => one.seq - other.seq);
    }

    /** Takes an entry and returns those that can be applied now, in order; an entry that came before gives none. */
    offer(message: Message): Message[] {
        this.noteHead(message.seq);
        if (message.seq > this.#applied && !this.#held.has(message.seq)) this.#held.set(message.seq, message);
        const ready = this.#ready();
        if (this.#held.size > MAX_HELD) this.#held.delete(Math.max(...this.#held.keys()));
        return ready;
    }

    /** Notes that the history of this reader begins at `seq`. Returns the entries that can be applied now. */
    beginAt(seq: number): Message[] {
        if (seq - 1 > this.#applied) {
            this.#applied = seq - 1;
            for (const held of [...this.#held.keys()]) if (held < seq) this.#held.delete(held);
        }
        return this.#ready();
    }

    /** Notes that the chat reaches at least to `seq`. */
    noteHead(seq: number): void {
        this.#head = Math.max(this.#head, seq);
    }

    #ready(): Message[] {
        const ready: Message[] = [];
        for (let next; (next = this.#held.get(this.#applied + 1));) {
            this.#held.delete(next.seq);
            this.#applied = next.seq;
            ready.push(next);
        }
        return ready;
    }
}

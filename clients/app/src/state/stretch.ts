// Entries of a chat without a gap between the first and the last.
import { View, type socket } from "@posthouse/client";

type Message = socket.Message;

/** Entries `from` to `to` of one chat, as `user` sees them. It begins empty at `from`, with `to` one less. */
export class Stretch {
    readonly #user: string;
    #view: View;
    #from: number;
    #to: number;

    constructor(user: string, from: number, entries: readonly Message[] = []) {
        this.#user = user;
        this.#view = new View(user);
        this.#from = from;
        this.#to = from - 1;
        for (const entry of entries) this.append(entry);
    }

    get from(): number {
        return this.#from;
    }

    get to(): number {
        return this.#to;
    }

    get size(): number {
        return this.#to - this.#from + 1;
    }

    /** The entries, each as the later ones left it. */
    get entries(): Message[] {
        const entries: Message[] = [];
        for (let seq = this.#from; seq <= this.#to; seq += 1) {
            const entry = this.#view.entries.get(seq);
            if (entry) entries.push(entry);
        }
        return entries;
    }

    get(seq: number): Message | undefined {
        return seq <= this.#to ? this.#view.entries.get(seq) : undefined;
    }

    /** Adds the next entries; those that are here, and those behind a gap, are passed over. */
    append(...entries: readonly Message[]): void {
        for (const entry of entries) {
            if (this.size === 0 && entry.seq > this.#from) this.#from = entry.seq;
            else if (entry.seq !== this.#to + 1) continue;
            this.#view.apply(entry);
            this.#to = entry.seq;
        }
    }

    /**
     * Adds the entries before. What is here is applied to them again: a page may be of a moment before a change that came meanwhile, and a
     * change that it includes has no effect.
     */
    prepend(entries: readonly Message[]): void {
        const before = entries.filter((entry) => entry.seq < this.#from);
        if (before.at(-1)?.seq !== this.#from - 1) return;
        this.#rebuild([...before, ...this.entries]);
    }

    /** Notes what a later entry, which does not follow the last one here, changes of those that are here. */
    see(entry: Message): void {
        if (entry.target_seq !== undefined || entry.kind === "delete_range") this.#view.apply(entry);
    }

    /** Keeps the last `count` entries. */
    keepLast(count: number): void {
        if (this.size > count) this.#rebuild(this.entries.slice(-count));
    }

    /** Keeps the first `count` entries. */
    keepFirst(count: number): void {
        if (this.size > count) this.#rebuild(this.entries.slice(0, count));
    }

    /** Removes the texts whose time has come. */
    expire(nowMs: number): void {
        this.#view.expire(nowMs);
    }

    #rebuild(entries: readonly Message[]): void {
        this.#view = new View(this.#user);
        this.#from = entries[0]?.seq ?? this.#from;
        this.#to = this.#from - 1;
        this.append(...entries);
    }
}

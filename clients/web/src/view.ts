// What a client has of one chat: its messages with what later entries changed of them.
import { addChange, deletions, type Change } from "./changes.js";
import { expired } from "./expiry.js";
import type { Message } from "./generated/socket.js";

/** The entries of a chat, each as the later ones left it. Entries are applied in order, as a session hands them out. */
export class View {
    readonly #user: string;
    readonly #entries = new Map<number, Message>();
    /** The edits of each message, by their seq: a deletion finds them without reading the whole chat. */
    readonly #edits = new Map<number, Set<number>>();

    /** Creates a view without entries, as `user` sees it. */
    constructor(user: string) {
        this.#user = user;
    }

    /** The entries by seq. Those that an entry changes are replaced and never modified. */
    get entries(): ReadonlyMap<number, Message> {
        return this.#entries;
    }

    /** Applies the next entry. What it changes of an entry that is not here has no effect. */
    apply(entry: Message): void {
        this.#entries.set(entry.seq, entry);
        if (entry.kind === "edit" && entry.target_seq !== undefined) {
            const edits = this.#edits.get(entry.target_seq) ?? new Set();
            this.#edits.set(entry.target_seq, edits.add(entry.seq));
        }
        if (entry.kind === "delete_range") this.#deleteRange(entry);
        if (entry.target_seq === undefined) return;
        const target = this.#entries.get(entry.target_seq);
        if (!target) return;
        const isNew = this.#change(target.seq, entry, entry.kind);
        if (entry.kind === "edit" && isNew) this.#replace(target.seq, { body: entry.body });
        // What it replied to may have been fetched at another moment, without this.
        if (entry.kind === "delete") this.#erase(entry, target.seq);
    }

    #change(seq: number, entry: Message, change: Change, replies = 0): boolean {
        const target = this.#entries.get(seq);
        if (!target) return false;
        const before = target.changes ?? { seq: 0 };
        const changes = addChange(before, entry.seq, change, entry.sender, entry.body, replies);
        if (changes === before) return false;
        if (entry.sender === this.#user && (change === "reaction" || change === "reaction_removed")) {
            const own = change === "reaction";
            changes.reactions = (changes.reactions ?? []).map((of) =>
                of.emoji === entry.body ? { ...of, own } : of,
            );
            if (changes.reactions.length === 0) delete changes.reactions;
        }
        this.#replace(seq, { changes });
        return true;
    }

    /** Removes the texts whose time has come. A program calls it now and then: nothing comes from the messenger at that moment. */
    expire(nowMs: number): void {
        for (const [at, entry] of this.#entries) {
            const left = expired(entry, nowMs);
            if (left) this.#entries.set(at, left);
        }
    }

    /** Removes the text of a deleted message and of its edits. */
    #erase(deletion: Message, seq: number): void {
        const repliedTo = this.#entries.get(seq)?.target_seq;
        this.#empty(seq);
        if (repliedTo !== undefined) this.#change(repliedTo, deletion, "replies_deleted", 1);
    }

    /** Deletes what a range has to be deleted. */
    #deleteRange(deletion: Message): void {
        for (const [seq, { change, replies }] of deletions(deletion, this.#entries.values())) {
            this.#change(seq, deletion, change, replies);
            if (change === "delete") this.#empty(seq);
        }
    }

    #empty(seq: number): void {
        for (const at of [seq, ...(this.#edits.get(seq) ?? [])]) {
            const entry = this.#entries.get(at);
            if (!entry) continue;
            const emptied = { ...entry, body: "" };
            delete emptied.attachments;
            this.#entries.set(at, emptied);
        }
    }

    #replace(seq: number, fields: Partial<Message>): void {
        const entry = this.#entries.get(seq);
        if (entry) this.#entries.set(seq, { ...entry, ...fields });
    }
}

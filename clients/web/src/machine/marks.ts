// How far the user has come in their chats, and what of it is to be said.
import type { Error as WireError, Receipt } from "../generated/socket.js";
import type { Command } from "../post.js";
import { ANSWER_PATIENCE_MS, wait } from "./wait.js";

/** Marks of a chat are sent at most this often: the last one counts. */
const MARK_PAUSE_MS = 1_000;

/** `said` is what the server has, or is about to; `taken` what it has. */
type Watermark = { seq: number; said: number; taken: number };

/** No mark is sent before `heldUntil`. */
type Marked = { read: Watermark; delivered: Watermark; heldUntil: number };

/** A mark without an answer, of what is read or of what is received. */
export type Said = { mark: string; isRead: boolean; seq: number; at: number };

/** Returns the command that says a mark. */
export function marking({ mark: chat, isRead, seq }: Said): Command {
    return isRead ? { read: { chat, seq } } : { delivered: { chat, seq } };
}

/** What is to be said of how far the user has come. */
export class Marks {
    readonly #chats = new Map<string, Marked>();

    /** Notes that the user has read a chat up to `seq`. */
    read(chat: string, seq: number): void {
        const { read } = this.#of(chat);
        read.seq = Math.max(read.seq, seq);
    }

    /** Notes that this device has received a chat up to `seq`. */
    delivered(chat: string, seq: number): void {
        const { delivered } = this.#of(chat);
        delivered.seq = Math.max(delivered.seq, seq);
    }

    /** Notes a new connection: whether a mark without an answer arrived is not known, and it may be said again. */
    connected(): void {
        for (const { read, delivered } of this.#chats.values()) {
            for (const mark of [read, delivered]) mark.said = mark.taken;
        }
    }

    /** Returns at most `room` marks that are due, which count as said. */
    due(room: number, now: number): Said[] {
        const due: Said[] = [];
        for (const [chat, marked] of this.#chats) {
            if (due.length >= room) break;
            const { read, delivered, heldUntil } = marked;
            // What is read was received.
            delivered.said = Math.max(delivered.said, read.seq);
            const isRead = read.seq > read.said;
            if (now < heldUntil || !(isRead || delivered.seq > delivered.said)) continue;
            marked.heldUntil = now + MARK_PAUSE_MS;
            const mark = isRead ? read : delivered;
            mark.said = mark.seq;
            due.push({ mark: chat, isRead, seq: mark.seq, at: now });
        }
        return due;
    }

    /** Notes that the server has a mark. */
    taken(said: Said): void {
        const mark = this.#watermark(said);
        mark.taken = Math.max(mark.taken, said.seq);
    }

    /** Says a mark again that was refused for now. One that is refused for good is as if it had not been said. */
    refused(said: Said, error: WireError, now: number): void {
        const marked = this.#of(said.mark);
        const mark = this.#watermark(said);
        // What is read counts as received, and so does its refusal.
        marked.delivered.said = marked.delivered.taken;
        mark.said = mark.taken;
        if (error.temporary) marked.heldUntil = now + Math.max(wait(error), MARK_PAUSE_MS);
        else if (mark.seq === said.seq) mark.seq = mark.taken;
    }

    /** Says a mark again whose answer did not come in time. Returns whether it is so. */
    tick(said: Said, now: number): boolean {
        if (now - said.at < ANSWER_PATIENCE_MS) return false;
        const mark = this.#watermark(said);
        mark.said = mark.taken;
        return true;
    }

    /** Notes a receipt. Returns whether it is news: one of the user's own behind a later one has an old count of what is unread. */
    receipt({ chat, read_seq, unread }: Receipt): boolean {
        if (unread === undefined || read_seq === undefined) return true;
        const { read } = this.#of(chat);
        if (read_seq < read.taken) return false;
        read.taken = read_seq;
        read.said = Math.max(read.said, read.taken);
        return true;
    }

    #of(chat: string): Marked {
        const marked = this.#chats.get(chat) ?? {
            read: { seq: 0, said: 0, taken: 0 },
            delivered: { seq: 0, said: 0, taken: 0 },
            heldUntil: -Infinity,
        };
        this.#chats.set(chat, marked);
        return marked;
    }

    #watermark({ mark, isRead }: Said): Watermark {
        const { read, delivered } = this.#of(mark);
        return isRead ? read : delivered;
    }
}

// Which chats changed, and when that is to be asked.
import type { Error as WireError, Sync as Query, SyncPage } from "../generated/socket.js";
import { ANSWER_PATIENCE_MS, RETRY_AFTER_MS, wait } from "./wait.js";

/** Syncs in a row for entries that no page includes: the head of a chat follows its announcement within this time, and one that is not
 *  there by then is of a chat that the user does not read any more. */
const MAX_RESYNCS = 6;

/** What is requested again until it is answered. */
export type Fetch = { is: "idle" | "due" | "unanswered"; at: number };

/** Returns whether an answer did not come in time. */
export function isLost({ is, at }: Fetch, now: number): boolean {
    return is === "unanswered" && now - at >= ANSWER_PATIENCE_MS;
}

/** Which chats changed while there was no connection, or in a way of which pushes do not tell all. */
export class Sync {
    /** Where the next page goes on; none begins with all chats. */
    #cursor: string | undefined;
    #fetch: Fetch = { is: "idle", at: 0 };
    /** The program asked while a request was under way, whose answer may be of before. */
    #isAsked = false;
    /** The last entry of each chat that the program knows of, with all before it. */
    readonly #heads = new Map<string, number>();
    /** Entries that came, of chats that no page has named or of which others did not come. */
    readonly #missing = new Map<string, number>();
    /** Syncs in a row that left some of them. */
    #resyncs = 0;

    constructor(cursor: string | undefined) {
        this.#cursor = cursor;
    }

    /** Whether all chats are still to be fetched. */
    get begins(): boolean {
        return this.#cursor === undefined;
    }

    /** Returns whether a page has named a chat, and the user has not left it since. */
    names(chat: string): boolean {
        return this.#heads.has(chat);
    }

    /** Asks what changed from now on, as each connection does once. */
    begin(now: number): void {
        this.#fetch = { is: "due", at: now };
        this.#isAsked = false;
    }

    /** Asks for a program. */
    ask(now: number): void {
        if (this.#fetch.is === "idle") this.#fetch = { is: "due", at: now };
        else if (this.#fetch.is === "unanswered") this.#isAsked = true;
    }

    /** Returns the request that is due. */
    request(now: number): Query | undefined {
        if (this.#fetch.is !== "due" || this.#fetch.at > now) return undefined;
        this.#fetch = { is: "unanswered", at: now };
        return this.#cursor === undefined ? {} : { cursor: this.#cursor };
    }

    /** Asks again for what stayed without an answer. */
    tick(now: number): void {
        if (isLost(this.#fetch, now)) this.#fetch = { is: "due", at: now };
    }

    /** Notes an entry. One that does not follow the last one is missed until a page includes it. */
    note(chat: string, seq: number, now: number): void {
        if (this.#heads.get(chat) === seq - 1) this.#heads.set(chat, seq);
        else this.miss(chat, seq, now);
    }

    /** Notes an entry that exists, and asks for a page that includes it. */
    miss(chat: string, seq: number, now: number): void {
        if ((this.#heads.get(chat) ?? -1) >= seq) return;
        this.#missing.set(chat, Math.max(this.#missing.get(chat) ?? 0, seq));
        if (this.#fetch.is === "idle") this.#fetch = { is: "due", at: now };
    }

    /** Forgets a chat that the user has left. */
    forget(chat: string): void {
        this.#heads.delete(chat);
        this.#missing.delete(chat);
    }

    /** Takes a page, and says when the next one is due. */
    take(page: SyncPage, now: number): void {
        this.#cursor = page.cursor;
        if (page.all_chats) {
            const all = new Set(page.all_chats);
            for (const chat of this.#heads.keys()) if (!all.has(chat)) this.#heads.delete(chat);
        }
        for (const { chat, head_seq } of page.chats) {
            this.#heads.set(chat, Math.max(this.#heads.get(chat) ?? 0, head_seq));
        }
        if (page.more) {
            this.#fetch = { is: "due", at: now };
            return;
        }
        for (const [chat, seq] of this.#missing) {
            if ((this.#heads.get(chat) ?? -1) >= seq) this.#missing.delete(chat);
        }
        if (this.#missing.size === 0 || this.#resyncs === MAX_RESYNCS) {
            this.#fetch = { is: "idle", at: now };
            this.#resyncs = 0;
            this.#missing.clear();
        } else {
            this.#resyncs += 1;
            this.#fetch = { is: "due", at: now + RETRY_AFTER_MS };
        }
        if (this.#isAsked) this.#fetch = { is: "due", at: now };
        this.#isAsked = false;
    }

    /** Asks again later. Returns whether that begins with all chats. */
    refused(error: WireError, now: number): boolean {
        this.#fetch = { is: "due", at: now + wait(error) };
        if (error.code !== "cursor_expired") return false;
        this.#cursor = undefined;
        this.#heads.clear();
        return true;
    }
}

// One chat as it is read: a stretch of its log, which grows where the reader goes and stays bounded.
import { QueryError, type ErrorCode, type Session, type socket } from "@posthouse/client";
import { Source } from "../shared/source";
import { Stretch } from "./stretch";

type Message = socket.Message;

/** Entries of a page. */
const PAGE = 100;
/** Entries of a stretch, at most: beyond it what is farthest from the reader goes, and is fetched again. */
const MAX_ENTRIES = 1_000;
/** Longer than what gathers changes. */
const TRIM_AFTER_MS = 100;

/** What a room does with the messenger. */
export type Line = Pick<Session, "follow" | "history">;

/** How a room is: `closed` until it is opened, then `loading` while a page is fetched that stands between the reader and what they want. */
export type RoomState = "closed" | "loading" | "ready" | "gone";

/**
 * A chat that is read. The newest entries, `live`, are followed from the first opening on; the reader is in them, or in another stretch that
 * they went to. The two are joined where they meet.
 */
export class Room extends Source {
    state: RoomState = "closed";
    /** Why it is gone. */
    code: ErrorCode | undefined;
    readonly #line: Line;
    readonly #user: string;
    #live: Stretch;
    #shown: Stretch;
    /** The first entry that the user reads. */
    #begin = 1;
    #isFetching = false;
    /** Where the reader is on the way to, while its page is fetched. */
    #going: { seq: number; arrived: Promise<boolean> } | undefined;

    constructor(
        readonly chat: string,
        user: string,
        line: Line,
    ) {
        super();
        this.#line = line;
        this.#user = user;
        this.#shown = this.#live = new Stretch(user, 1);
    }

    /** The entries that the reader is among. */
    get entries(): Message[] {
        return this.#shown.entries;
    }

    get(seq: number): Message | undefined {
        return this.#shown.get(seq) ?? this.#live.get(seq);
    }

    /** Whether an entry is among those. */
    isShown(seq: number): boolean {
        return seq >= this.#shown.from && this.#shown.get(seq) !== undefined;
    }

    /** Whether the entries reach the newest one. */
    get isAtEnd(): boolean {
        return this.#shown === this.#live;
    }

    get hasEarlier(): boolean {
        return this.state === "ready" && this.#shown.from > this.#begin;
    }

    /** The newest entry that is here. */
    get lastSeq(): number {
        return this.#live.to;
    }

    /** Follows the chat from its last page on. Another call has no effect. */
    open(fromSeq: number, headSeq: number): void {
        if (this.state !== "closed") return;
        this.#begin = fromSeq;
        const after = Math.max(fromSeq - 1, headSeq - PAGE, 0);
        this.#shown = this.#live = new Stretch(this.#user, after + 1);
        this.state = headSeq > after ? "loading" : "ready";
        this.#line.follow(this.chat, after);
        this.changed();
    }

    /** Takes an entry of the followed chat, the next one. */
    take(entry: Message): void {
        this.#live.append(entry);
        if (!this.isAtEnd) this.#shown.see(entry);
        else if (this.#live.size > 2 * MAX_ENTRIES) this.#live.keepLast(MAX_ENTRIES);
        if (this.state === "loading") this.state = "ready";
        this.changed();
    }

    /** Notes that the chat is not readable any more. */
    lose(code: ErrorCode): void {
        this.state = "gone";
        this.code = code;
        this.changed();
    }

    /** Fetches the page before. */
    async loadEarlier(): Promise<void> {
        const shown = this.#shown;
        if (!this.hasEarlier || this.#isFetching) return;
        const page = await this.#page({ before: shown.from });
        if (!page || this.#shown !== shown) return;
        shown.prepend(page.messages);
        // Nothing came before: the history begins here, wherever it was said to.
        if (page.messages.length === 0) this.#begin = shown.from;
        this.changed();
        this.#trim(() => this.#letGoOfEnd());
    }

    /** Fetches the page behind, where the entries do not reach the newest one. */
    async loadLater(): Promise<void> {
        const shown = this.#shown;
        if (this.isAtEnd || this.#isFetching) return;
        const page = await this.#page({ after: shown.to });
        if (!page || this.#shown !== shown) return;
        shown.append(...page.messages);
        this.#join();
        this.changed();
        this.#trim(() => this.#shown.keepLast(MAX_ENTRIES));
    }

    /** Goes to an entry: to a page around it where it is not here. Returns whether it is here then. Who goes elsewhere meanwhile stays there. */
    async goTo(seq: number): Promise<boolean> {
        if (this.#shown.get(seq)) {
            this.#going = undefined;
            return true;
        }
        if (this.#live.get(seq)) {
            this.toEnd();
            return true;
        }
        if (this.#going?.seq !== seq) this.#going = { seq, arrived: this.#fetchAround(seq) };
        return this.#going.arrived;
    }

    /** Goes to the newest entries. */
    toEnd(): void {
        this.#going = undefined;
        if (this.isAtEnd) return;
        this.#shown = this.#live;
        this.changed();
    }

    /** Removes the texts whose time has come. */
    expire(nowMs: number): void {
        this.#live.expire(nowMs);
        if (!this.isAtEnd) this.#shown.expire(nowMs);
        this.changed();
    }

    async #fetchAround(seq: number): Promise<boolean> {
        const page = await this.#page({ around: seq });
        const first = page?.messages[0];
        // An older page does not take the reader away from where they went since.
        if (this.#going?.seq === seq) {
            this.#going = undefined;
            if (page && first) {
                this.#shown = new Stretch(this.#user, first.seq, page.messages);
                this.#join();
                this.changed();
            }
        }
        return this.#shown.get(seq) !== undefined;
    }

    /** In a step of its own: a list keeps its place over a change at one of its ends, and not at both. */
    #trim(trim: () => void): void {
        const shown = this.#shown;
        if (shown.size <= MAX_ENTRIES) return;
        setTimeout(() => {
            if (this.#shown !== shown) return;
            trim();
            this.changed();
        }, TRIM_AFTER_MS);
    }

    /** A reader who is far from the newest entries leaves them to come by themselves. */
    #letGoOfEnd(): void {
        if (this.isAtEnd) {
            this.#live = new Stretch(
                this.#user,
                Math.max(1, this.#shown.to - PAGE + 1),
                this.entries.slice(-PAGE),
            );
        }
        this.#shown.keepFirst(MAX_ENTRIES);
    }

    #join(): void {
        if (this.#shown.to < this.#live.from - 1) return;
        const joined = new Stretch(this.#user, this.#shown.from, this.#shown.entries);
        joined.append(...this.#live.entries);
        this.#shown = this.#live = joined;
    }

    /** Returns a page, or nothing while there is no connection: the reader's next move asks again. */
    async #page(
        of: Pick<socket.History, "before" | "after" | "around">,
    ): Promise<socket.HistoryPage | undefined> {
        this.#isFetching = true;
        try {
            const page = await this.#line.history({ chat: this.chat, limit: PAGE, ...of });
            this.#begin = page.from_seq;
            return page;
        } catch (error) {
            if (error instanceof QueryError) return undefined;
            throw error;
        } finally {
            this.#isFetching = false;
        }
    }
}

// The list of a user's chats as a client shows it: what `sync` said, and what has happened since.
//
// What a sync, an entry or a receipt says is of one moment, and they come by different ways. Each of them names the last entry that it
// includes, so it does not matter in which order they come: the list ends as one that is just fetched.
import { expired } from "./expiry.js";
import type { ChatState, Message, OwnState, Receipt, SyncPage } from "./generated/socket.js";
import type { Event } from "./machine.js";

/** Entries of a chat that are kept to be applied again to an older state that comes late, or to be counted behind a watermark. */
const MAX_RECENT = 128;
/** Receipts that are kept until a page names their chat. */
const MAX_EARLY = 1_000;
const ROLES: readonly string[] = ["owner", "admin", "member"] satisfies Array<ChatState["role"]>;

/** What is unread up to an entry, as the server counted it. */
type Counted = { upTo: number; unread: number; mentions: number };

/** The chats of a user. Give it every event of a session of the types in `ChatList.EVENTS`; the others say nothing to it. */
export class ChatList {
    /** The types of events that change a list. */
    static readonly EVENTS = ["synced", "entry", "elsewhere", "marked", "own_state"] as const;

    readonly #user: string;
    readonly #chats = new Map<string, Listed>();
    /** The entry that removed the user, of chats that an older page may still name. */
    readonly #left = new Map<string, number>();
    /** Receipts in chats that no page has named yet: the one that does may be of before them. */
    #early: Receipt[] = [];
    /** How the user has such chats, likewise. */
    #earlyOwn: OwnState[] = [];

    /** Creates a list without chats. */
    constructor(user: string) {
        this.#user = user;
    }

    /** The chats, by id. `entries` has the last entry, and nothing while that is not known. States are replaced and never modified. */
    get chats(): ChatState[] {
        const ids = [...this.#chats.keys()].sort();
        return ids.flatMap((id) => this.get(id) ?? []);
    }

    /** Returns a chat. */
    get(chat: string): ChatState | undefined {
        return this.#chats.get(chat)?.state;
    }

    /** The texts that are unread in all chats, and how many of them call the user. */
    get unread(): { unread: number; mentions: number } {
        const sum = { unread: 0, mentions: 0 };
        for (const { state } of this.#chats.values()) {
            sum.unread += state.watermarks.unread;
            sum.mentions += state.watermarks.mentions;
        }
        return sum;
    }

    /** Applies an event of a session. */
    apply(event: Event): void {
        if (event.type === "synced") this.#synced(event.page);
        else if (event.type === "entry" || event.type === "elsewhere") this.#entry(event.message);
        else if (event.type === "marked") this.#marked(event.receipt);
        else if (event.type === "own_state") this.#own(event.ownState);
    }

    /** Removes the last texts whose time has come. A program calls it now and then: nothing comes from the messenger at that moment. They
     *  are unread as before: the messenger counts them too. */
    expire(nowMs: number): void {
        for (const listed of this.#chats.values()) listed.expire(nowMs);
    }

    #synced(page: SyncPage): void {
        for (const state of page.chats) {
            // Behind the removal there is an entry that added the user again, or the page is of before.
            if (state.head_seq <= (this.#left.get(state.chat) ?? -1)) continue;
            this.#left.delete(state.chat);
            this.#chats.set(state.chat, new Listed(this.#user, state, this.#chats.get(state.chat)));
        }
        if (page.all_chats) {
            const all = new Set(page.all_chats);
            for (const chat of this.#chats.keys()) if (!all.has(chat)) this.#chats.delete(chat);
        }
        if (page.more) return;
        const early = this.#early;
        this.#early = [];
        for (const receipt of early) this.#chats.get(receipt.chat)?.marked(receipt);
        const earlyOwn = this.#earlyOwn;
        this.#earlyOwn = [];
        for (const { chat, own } of earlyOwn) this.#chats.get(chat)?.own(own);
    }

    #own(own: OwnState): void {
        const listed = this.#chats.get(own.chat);
        if (listed) listed.own(own.own);
        else if (this.#earlyOwn.length < MAX_EARLY) this.#earlyOwn.push(own);
    }

    #marked(receipt: Receipt): void {
        const listed = this.#chats.get(receipt.chat);
        if (listed) listed.marked(receipt);
        else if (this.#early.length < MAX_EARLY) this.#early.push(receipt);
    }

    #entry(message: Message): void {
        if (message.kind === "member_removed" && message.subject === this.#user) {
            // One that a page includes is of before the user came back.
            if (message.seq <= (this.#chats.get(message.chat)?.state.head_seq ?? -1)) return;
            this.#chats.delete(message.chat);
            this.#left.set(message.chat, message.seq);
            return;
        }
        // The session syncs for an entry of a chat that no page has named.
        this.#chats.get(message.chat)?.entry(message);
    }
}

/** A chat of the list. */
class Listed {
    readonly #user: string;
    /** Replaced as a whole by each change. */
    state: ChatState;
    /** Entries as they came, by seq. */
    readonly #recent: Map<number, Message>;
    #counted: Counted;

    /** Takes a state of the server, and applies what it does not include: later entries, and watermarks, which never go back. */
    constructor(user: string, state: ChatState, before?: Listed) {
        this.#user = user;
        this.#recent = before ? before.#recent : new Map();
        const { counted_seq, unread, mentions } = state.watermarks;
        // A server of before does not say what it counted.
        this.#counted = { upTo: counted_seq ?? 0, unread, mentions };
        // One is shown; a page may have more of them, or none.
        this.state = { ...state, entries: state.entries.slice(-1) };
        if (before) this.#keepMarks(before);
        if (before?.state.own) this.own(before.state.own);
        this.#catchUp();
    }

    expire(nowMs: number): void {
        const entries = this.state.entries.map((entry) => expired(entry, nowMs) ?? entry);
        if (entries.some((entry, at) => entry !== this.state.entries[at]))
            this.state = { ...this.state, entries };
        for (const [seq, entry] of this.#recent) {
            if (!expired(entry, nowMs)) continue;
            const emptied = { ...entry, body: "" };
            delete emptied.attachments;
            this.#recent.set(seq, emptied);
        }
    }

    #keepMarks(before: Listed): void {
        const [marks, known] = [this.state.watermarks, before.state.watermarks];
        if (known.read_seq > marks.read_seq) {
            this.#mark({ read_seq: known.read_seq });
            this.#counted = before.#counted;
        }
        this.#mark({ delivered_seq: Math.max(marks.delivered_seq, known.delivered_seq) });
        // Unless the page says that the other user does not show it.
        const { other_read_seq, other_delivered_seq } = this.state;
        const other = before.state;
        if (other_read_seq !== undefined) {
            this.#set({ other_read_seq: Math.max(other_read_seq, other.other_read_seq ?? 0) });
        }
        if (other_delivered_seq !== undefined) {
            this.#set({ other_delivered_seq: Math.max(other_delivered_seq, other.other_delivered_seq ?? 0) });
        }
    }

    /** Takes how the user has the chat, unless a later change is known. */
    own(own: OwnState["own"]): void {
        if (own.version > (this.state.own?.version ?? 0)) this.#set({ own });
    }

    entry(message: Message): void {
        if (!this.#recent.has(message.seq)) this.#recent.set(message.seq, message);
        if (this.#recent.size > MAX_RECENT) this.#recent.delete(Math.min(...this.#recent.keys()));
        this.#catchUp();
    }

    marked(receipt: Receipt): void {
        if (receipt.user !== this.#user) {
            if (receipt.user === this.state.other) this.#markedByOther(receipt);
            return;
        }
        const { delivered_seq = 0, read_seq, unread, mentions, counted_seq } = receipt;
        const marks = this.state.watermarks;
        this.#mark({ delivered_seq: Math.max(marks.delivered_seq, delivered_seq) });
        const isCounted =
            read_seq !== undefined &&
            unread !== undefined &&
            mentions !== undefined &&
            counted_seq !== undefined;
        if (isCounted && read_seq > marks.read_seq) {
            this.#mark({ read_seq });
            this.#counted = { upTo: counted_seq, unread, mentions };
        }
        this.#count();
    }

    #markedByOther({ read_seq, delivered_seq }: Receipt): void {
        const { other_read_seq = -1, other_delivered_seq = -1 } = this.state;
        if (read_seq !== undefined && read_seq > other_read_seq) this.#set({ other_read_seq: read_seq });
        if (delivered_seq !== undefined && delivered_seq > other_delivered_seq) {
            this.#set({ other_delivered_seq: delivered_seq });
        }
    }

    /** Applies the entries that follow the last one; one beyond a gap waits. */
    #catchUp(): void {
        for (let next; (next = this.#recent.get(this.state.head_seq + 1));) {
            this.#apply(next);
            this.#set({ head_seq: next.seq, entries: [next], limited: next.seq > this.state.from_seq });
        }
        this.#count();
    }

    #apply(entry: Message): void {
        const isOfUser = entry.subject === this.#user;
        switch (entry.kind) {
            case "text":
                // Who writes a text has read the chat up to it.
                if (entry.sender === this.#user) this.#read(entry.seq);
                break;
            case "title_changed":
                this.#set({ title: entry.body });
                break;
            case "topic_changed":
                this.#setOrDrop("topic", entry.body || undefined);
                break;
            case "avatar_changed":
                this.#setOrDrop("avatar", entry.body || undefined);
                break;
            case "slow_mode_changed":
                this.#setOrDrop("slow_mode_seconds", Number(entry.body) || undefined);
                break;
            case "ttl_changed":
                this.#setOrDrop("message_ttl_seconds", Number(entry.body) || undefined);
                break;
            case "role_changed":
                if (isOfUser && ROLES.includes(entry.body)) {
                    this.#set({ role: entry.body as ChatState["role"] });
                }
                break;
            case "member_added":
            case "member_removed":
                // Who joins has read what was before.
                if (entry.kind === "member_added" && isOfUser) this.#read(entry.seq);
                if (/^\d+$/.test(entry.body)) this.#set({ member_count: Number(entry.body) });
                break;
        }
    }

    #read(seq: number): void {
        const marks = this.state.watermarks;
        const read_seq = Math.max(marks.read_seq, seq);
        this.#mark({ read_seq, delivered_seq: Math.max(marks.delivered_seq, read_seq) });
        if (this.#counted.upTo <= seq) this.#counted = { upTo: seq, unread: 0, mentions: 0 };
    }

    /** Adds the texts behind those that the server counted. */
    #count(): void {
        let { upTo, unread, mentions } = this.#counted;
        const { head_seq, watermarks } = this.state;
        upTo = Math.max(upTo, watermarks.read_seq);
        for (const [seq, entry] of this.#recent) {
            if (seq <= upTo || seq > head_seq) continue;
            if (entry.kind !== "text" || entry.sender === this.#user) continue;
            unread += 1;
            if (entry.mentions_all || entry.mentions?.includes(this.#user)) mentions += 1;
        }
        this.#mark({ unread, mentions, counted_seq: Math.max(this.#counted.upTo, head_seq) });
    }

    #set(fields: Partial<ChatState>): void {
        this.state = { ...this.state, ...fields };
    }

    /** Sets a field, or removes it where it has its default. */
    #setOrDrop(
        field: "topic" | "avatar" | "slow_mode_seconds" | "message_ttl_seconds",
        value: string | number | undefined,
    ): void {
        const { [field]: _, ...others } = this.state;
        this.state = value === undefined ? (others as ChatState) : ({ ...others, [field]: value } as ChatState);
    }

    #mark(fields: Partial<ChatState["watermarks"]>): void {
        this.#set({ watermarks: { ...this.state.watermarks, ...fields } });
    }
}

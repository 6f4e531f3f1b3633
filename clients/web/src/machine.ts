// The client's side of the protocol as a state machine apart from the socket, without I/O and without a clock.
//
//   commands --\                          /--> frames to the socket
//   frames   ----> Machine                 --> events for the program
//   the time --/                          \--> what became of each send
import type {
    Activity,
    Connected,
    Error as WireError,
    HistoryPage,
    Message,
    OwnState,
    Receipt,
    ServerFrame,
    Stored,
    SyncPage,
    TypingUser,
    UserPresence,
    Watch,
} from "./generated/socket.js";
import { command, entry, type Command, type Post } from "./post.js";
import { Timeline } from "./timeline.js";

/** An accepted message whose seq was not announced in this time is sent again, which returns its seq. */
const STORED_PATIENCE_MS = 10_000;
/** Marks and histories without an answer: the server answers two queries at a time, and a send is behind what was sent before it. */
const MAX_UNANSWERED_MARKS = 4;
const MAX_UNANSWERED_HISTORIES = 4;
/** A send, a mark or a history request without any answer is repeated after this time. */
const ANSWER_PATIENCE_MS = 15_000;
/** Wait before a temporary refusal is tried again, when the server names none. */
const RETRY_AFTER_MS = 500;
/** Marks of a chat are sent at most this often: the last one counts. */
const MARK_PAUSE_MS = 1_000;
/** Entries in one page of history, at most. */
const MAX_HISTORY_LIMIT = 500;

export type ErrorCode = WireError["code"];

/** How an entry came to this client. */
export type Origin = "pushed" | "own" | "refetched";

/** What is known of a message that this client sends. */
export type SendState =
    | { state: "sending" }
    /** It is in the log and cannot be lost; its seq follows. */
    | { state: "accepted" }
    | { state: "stored"; seq: number; resends: number }
    /** It is not stored, and will not be. */
    | { state: "failed"; code: ErrorCode }
    /** The session ended before its fate was known; it stays in the outbox, and a send with the same key finds out. */
    | { state: "unknown" };

export type Event =
    /** The connection is up (again). */
    | { type: "connected"; session: string }
    /** The connection is down; the session connects again by itself. */
    | { type: "disconnected"; why: string }
    /** The next entry of a followed chat: each one once, and in order. */
    | { type: "entry"; message: Message; origin: Origin }
    /** An entry of a chat that is not followed, as it came: neither complete nor in order. */
    | { type: "elsewhere"; message: Message }
    /** A followed chat is not readable any more. */
    | { type: "unreadable"; chat: string; code: ErrorCode }
    | { type: "send"; chat: string; key: string; state: SendState }
    /** Chats that changed since the session was connected before: all of them at first, in pages. */
    | { type: "synced"; page: SyncPage }
    /** A member has read or received a chat further than before: the user themselves, or another one. */
    | { type: "marked"; receipt: Receipt }
    /**
     * The user has a chat in another way, by this device or another one. Of two states, also of one that was synced, the one with the
     * greater version counts.
     */
    | { type: "own_state"; ownState: OwnState }
    | { type: "presence"; users: UserPresence[] }
    | { type: "typing"; typing: TypingUser }
    /** The session is over and does not connect again. */
    | { type: "ended"; why: string };

export type ClientFrame = { id?: number } & Command;

export type Output =
    | { frame: ClientFrame }
    | { event: Event }
    /** The server does not take the token any more. */
    | { tokenRefused: true }
    /** The server cannot check a new token now; the one of this connection is as good as before. */
    | { refreshLater: true }
    /** The token of this connection is good for this long. */
    | { tokenExpiresInSeconds: number };

/** A message that is not known to be stored, as an outbox keeps it. */
export type Outgoing = { chat: string; key: string; post: Post };

type Transmission = { is: "due" | "unanswered" | "accepted"; at: number };

type Queued = Outgoing & { transmissions: number; transmission: Transmission };

type Fetch = { is: "idle" | "due" | "unanswered"; at: number };

type Followed = { timeline: Timeline; history: Fetch };

/** `said` is what the server has, or is about to; `taken` what it has. */
type Watermark = { seq: number; said: number; taken: number };

/** How far the user has come in a chat. No mark is sent before `heldUntil`. */
type Marks = { read: Watermark; delivered: Watermark; heldUntil: number };

type Pending =
    { send: string } | { history: string } | { refresh: true } | { watch: true } | { sync: true } | Said;

/** A mark without an answer, of what is read or of what is received. */
type Said = { mark: string; isRead: boolean; seq: number; at: number };

/** What is forgotten with a connection. */
type Online = {
    nextId: number;
    pending: Map<number, Pending>;
    maxInflight: number;
    unansweredSends: number;
    /** Sends that may be unanswered now: halved by each `rate_limited`, one more with each `accepted`. */
    window: number;
    /** No send before this: the server refused one as too many. */
    heldUntil: number;
};

/** The protocol of one user's session. Times are milliseconds of a clock that does not go back. */
export class Machine {
    readonly #user: string;
    #online: Online | undefined;
    /** By key, in the order in which they were sent. */
    readonly #outbox = new Map<string, Queued>();
    readonly #chats = new Map<string, Followed>();
    #watch: Watch | undefined;
    #watchAt = Infinity;
    #activity: Activity["state"] = "online";
    /** Where the next sync goes on; none begins with all chats. */
    #cursor: string | undefined;
    #sync: Fetch = { is: "idle", at: 0 };
    readonly #marks = new Map<string, Marks>();
    #outputs: Output[] = [];

    constructor(user: string) {
        this.#user = user;
    }

    /** Returns what came out since the last call, in order. */
    take(): Output[] {
        const outputs = this.#outputs;
        this.#outputs = [];
        return outputs;
    }

    /** Sends an entry until it is known to be stored or refused; the same key is the same message. */
    send({ chat, key, post }: Outgoing, now: number): void {
        if (this.#outbox.has(key)) return;
        this.#outbox.set(key, { chat, key, post, transmissions: 0, transmission: { is: "due", at: now } });
        this.#event({ type: "send", chat, key, state: { state: "sending" } });
        this.#pump(now);
    }

    /** Hands out every entry of `chat` with a greater seq than `after`, those already stored first. */
    follow(chat: string, after: number, now: number): void {
        this.#chats.set(chat, {
            timeline: new Timeline(after),
            history: { is: "due", at: now },
        });
        this.#pump(now);
    }

    /** Replaces what is watched, on this connection and on later ones. */
    watch(watch: Watch, now: number): void {
        this.#watch = watch;
        this.#watchAt = now;
        this.#pump(now);
    }

    /** Says whether the user is at this device, on this connection and on later ones. */
    activity(state: Activity["state"]): void {
        this.#activity = state;
        this.#unanswered({ activity: { state } });
    }

    /** Says that the user is typing; without a connection it is worth nothing. */
    typing(chat: string): void {
        this.#unanswered({ typing: { chat } });
    }

    /** Says that the user has read a chat up to `seq`. */
    read(chat: string, seq: number, now: number): void {
        const { read } = this.#marksOf(chat);
        read.seq = Math.max(read.seq, seq);
        this.#pump(now);
    }

    /** Says that this device has received a chat up to `seq`. */
    delivered(chat: string, seq: number, now: number): void {
        const { delivered } = this.#marksOf(chat);
        delivered.seq = Math.max(delivered.seq, seq);
        this.#pump(now);
    }

    #marksOf(chat: string): Marks {
        const marks = this.#marks.get(chat) ?? {
            read: { seq: 0, said: 0, taken: 0 },
            delivered: { seq: 0, said: 0, taken: 0 },
            heldUntil: -Infinity,
        };
        this.#marks.set(chat, marks);
        return marks;
    }

    #watermarkOf({ mark, isRead }: Said): Watermark {
        const { read, delivered } = this.#marksOf(mark);
        return isRead ? read : delivered;
    }

    /** Replaces the token of this connection. */
    refresh(token: string): void {
        this.#request({ refresh: true }, { refresh: { token } });
    }

    /** Notes a new connection. What was announced without one is lost; the sync names the chats that have grown. */
    connected(connected: Connected, now: number): void {
        const maxInflight = Math.max(1, connected.max_inflight);
        this.#online = {
            nextId: 2,
            pending: new Map(),
            maxInflight,
            unansweredSends: 0,
            window: maxInflight,
            heldUntil: -Infinity,
        };
        for (const queued of this.#outbox.values()) queued.transmission = { is: "due", at: now };
        for (const followed of this.#chats.values()) {
            const isUnanswered = followed.history.is === "unanswered";
            if (isUnanswered || this.#cursor === undefined) followed.history = { is: "due", at: now };
        }
        this.#sync = { is: "due", at: now };
        for (const { read, delivered } of this.#marks.values()) {
            // Whether one without an answer arrived is not known, and it may be said again.
            for (const mark of [read, delivered]) mark.said = mark.taken;
        }
        // A connection begins as online and watches nothing.
        if (this.#activity !== "online") this.activity(this.#activity);
        this.#watchAt = this.#watch ? now : Infinity;
        this.#event({ type: "connected", session: connected.session });
        this.#pump(now);
    }

    disconnected(why: string): void {
        if (!this.#online) return;
        this.#online = undefined;
        this.#event({ type: "disconnected", why });
    }

    /** Ends the session: whether what is in the outbox is stored stays unknown. */
    ended(why: string): void {
        this.#online = undefined;
        for (const { chat, key } of this.#outbox.values()) {
            this.#event({ type: "send", chat, key, state: { state: "unknown" } });
        }
        this.#outbox.clear();
        this.#event({ type: "ended", why });
    }

    /** Takes a frame of the server. What a frame has that is not known here is skipped. */
    frame(frame: ServerFrame, now: number): void {
        if (frame.ping) this.#unanswered({ pong: {} });
        if (frame.message) this.#entry(frame.message, "pushed", now);
        if (frame.stored) this.#stored(frame.stored, now);
        if (frame.rejected) this.#failed(frame.rejected.key, frame.rejected.code);
        if (frame.lagged) {
            this.#noteHead(frame.lagged.chat, frame.lagged.head_seq, now);
            // It may be a new chat, which nothing else tells of.
            if (!this.#chats.has(frame.lagged.chat) && this.#sync.is === "idle") {
                this.#sync = { is: "due", at: now };
            }
        }
        if (frame.receipt) this.#receipt(frame.receipt);
        if (frame.own_state) this.#event({ type: "own_state", ownState: frame.own_state });
        if (frame.presence) this.#event({ type: "presence", users: frame.presence.users });
        if (frame.typing) this.#event({ type: "typing", typing: frame.typing });
        const pending = this.#answered(frame.id);
        if (pending) this.#answer(pending, frame, now);
        this.#pump(now);
    }

    /** Reports how far a user has come. One of the user's own that comes behind a later one has an old count of what is unread. */
    #receipt(receipt: Receipt): void {
        if (receipt.unread !== undefined && receipt.read_seq !== undefined) {
            const { read } = this.#marksOf(receipt.chat);
            if (receipt.read_seq < read.taken) return;
            read.taken = receipt.read_seq;
            read.said = Math.max(read.said, read.taken);
        }
        this.#event({ type: "marked", receipt });
    }

    /** Repeats what stayed without an answer. */
    tick(now: number): void {
        for (const queued of this.#outbox.values()) {
            const { is, at } = queued.transmission;
            if (is === "due") continue;
            const patience = is === "accepted" ? STORED_PATIENCE_MS : ANSWER_PATIENCE_MS;
            if (now - at < patience) continue;
            queued.transmission = { is: "due", at: now };
            this.#forgetSend(queued.key);
        }
        const isLost = ({ is, at }: Fetch): boolean => is === "unanswered" && now - at >= ANSWER_PATIENCE_MS;
        for (const [chat, followed] of this.#chats) {
            if (!isLost(followed.history)) continue;
            followed.history = { is: "due", at: now };
            this.#forgetHistory(chat);
        }
        if (isLost(this.#sync)) this.#sync = { is: "due", at: now };
        for (const [id, pending] of this.#online?.pending ?? []) {
            if (!("mark" in pending) || now - pending.at < ANSWER_PATIENCE_MS) continue;
            this.#online?.pending.delete(id);
            const mark = this.#watermarkOf(pending);
            mark.said = mark.taken;
        }
        this.#pump(now);
    }

    #answer(pending: Pending, frame: ServerFrame, now: number): void {
        const { result, error } = frame;
        if ("send" in pending) {
            if (result?.accepted) this.#accepted(pending.send, now);
            else if (error) this.#sendRefused(pending.send, error, now);
        } else if ("history" in pending) {
            if (result?.history) this.#history(pending.history, result.history, now);
            else if (error) this.#historyRefused(pending.history, error, now);
        } else if ("refresh" in pending) {
            if (result?.refreshed) {
                this.#outputs.push({ tokenExpiresInSeconds: result.refreshed.token_expires_in_seconds });
            } else if (error?.temporary) this.#outputs.push({ refreshLater: true });
            else if (error) this.#outputs.push({ tokenRefused: true });
        } else if ("sync" in pending) {
            if (result?.synced) this.#synced(result.synced, now);
            else if (error) this.#syncRefused(error, now);
        } else if ("mark" in pending) {
            if (error) this.#markRefused(pending, error, now);
            else if (result) {
                const mark = this.#watermarkOf(pending);
                mark.taken = Math.max(mark.taken, pending.seq);
            }
        } else if (result?.watching) this.#event({ type: "presence", users: result.watching.users });
        // What may not be watched stays unknown.
        else if (error?.temporary) this.#watchAt = Math.min(this.#watchAt, now + wait(error));
    }

    /** Sends what is due, within the server's limits. */
    #pump(now: number): void {
        const online = this.#online;
        if (!online) return;
        if (this.#watch && this.#watchAt <= now) {
            this.#watchAt = Infinity;
            this.#request({ watch: true }, { watch: this.#watch });
        }
        if (this.#sync.is === "due" && this.#sync.at <= now) {
            this.#sync = { is: "unanswered", at: now };
            const sync = this.#cursor === undefined ? {} : { cursor: this.#cursor };
            this.#request({ sync: true }, { sync });
        }
        for (const [chat, marks] of this.#marks) {
            if (this.#countPending("mark") >= MAX_UNANSWERED_MARKS) break;
            this.#pumpMarks(chat, marks, now);
        }
        let histories = this.#countPending("history");
        for (const [chat, followed] of this.#chats) {
            if (histories >= MAX_UNANSWERED_HISTORIES) break;
            if (followed.history.is !== "due" || followed.history.at > now) continue;
            histories += 1;
            followed.history = { is: "unanswered", at: now };
            const history = { chat, after: followed.timeline.applied, limit: MAX_HISTORY_LIMIT };
            this.#request({ history: chat }, { history });
        }
        if (now < online.heldUntil) return;
        for (const queued of this.#outbox.values()) {
            if (online.unansweredSends >= online.window) break;
            if (queued.transmission.is !== "due" || queued.transmission.at > now) continue;
            queued.transmission = { is: "unanswered", at: now };
            queued.transmissions += 1;
            online.unansweredSends += 1;
            this.#request({ send: queued.key }, command(queued.post, queued.chat, queued.key));
        }
    }

    #pumpMarks(chat: string, marks: Marks, now: number): void {
        const { read, delivered } = marks;
        // What is read was received.
        delivered.said = Math.max(delivered.said, read.seq);
        const isRead = read.seq > read.said;
        if (now < marks.heldUntil || !(isRead || delivered.seq > delivered.said)) return;
        marks.heldUntil = now + MARK_PAUSE_MS;
        const mark = isRead ? read : delivered;
        mark.said = mark.seq;
        const command = { chat, seq: mark.seq };
        const said = { mark: chat, isRead, seq: mark.seq, at: now };
        this.#request(said, isRead ? { read: command } : { delivered: command });
    }

    #accepted(key: string, now: number): void {
        if (this.#online) this.#online.window = Math.min(this.#online.window + 1, this.#online.maxInflight);
        // It may be stored already: pushes and answers of one connection come by different ways.
        const queued = this.#outbox.get(key);
        if (!queued) return;
        queued.transmission = { is: "accepted", at: now };
        this.#event({ type: "send", chat: queued.chat, key, state: { state: "accepted" } });
    }

    #sendRefused(key: string, error: WireError, now: number): void {
        if (error.code === "rate_limited" && this.#online) {
            this.#online.window = Math.max(1, Math.floor(this.#online.window / 2));
            this.#online.heldUntil = Math.max(this.#online.heldUntil, now + wait(error));
        }
        const queued = this.#outbox.get(key);
        if (!queued) return;
        if (isOfToken(error)) {
            queued.transmission = { is: "due", at: now + RETRY_AFTER_MS };
            this.#outputs.push({ tokenRefused: true });
        } else if (error.temporary) queued.transmission = { is: "due", at: now + wait(error) };
        else this.#failed(key, error.code);
    }

    #failed(key: string, code: ErrorCode): void {
        const queued = this.#outbox.get(key);
        if (!queued) return;
        this.#outbox.delete(key);
        this.#event({ type: "send", chat: queued.chat, key, state: { state: "failed", code } });
    }

    #stored(stored: Stored, now: number): void {
        const queued = this.#outbox.get(stored.key);
        if (queued && stored.sent_at_ms !== undefined) {
            if (this.#chats.has(stored.chat)) {
                this.#entry(entry(queued.post, this.#user, stored, stored.sent_at_ms), "own", now);
            }
        } else this.#noteHead(stored.chat, stored.seq, now);
        if (!queued) return;
        this.#outbox.delete(stored.key);
        const state = {
            state: "stored",
            seq: stored.seq,
            resends: Math.max(0, queued.transmissions - 1),
        } as const;
        this.#event({ type: "send", chat: stored.chat, key: stored.key, state });
    }

    #entry(message: Message, origin: Origin, now: number): void {
        if (this.#chats.has(message.chat)) {
            this.#apply(message, origin);
            this.#fetchGap(message.chat, now);
        } else this.#event({ type: "elsewhere", message });
    }

    #apply(offered: Message, origin: Origin): void {
        const followed = this.#chats.get(offered.chat);
        if (!followed) return;
        for (const message of followed.timeline.offer(offered)) {
            // What waited beyond a gap came by a push, whichever way the gap was filled.
            this.#event({ type: "entry", message, origin: message.seq === offered.seq ? origin : "pushed" });
        }
    }

    #fetchGap(chat: string, at: number): void {
        const followed = this.#chats.get(chat);
        if (followed?.timeline.hasGap && followed.history.is === "idle") followed.history = { is: "due", at };
    }

    #noteHead(chat: string, seq: number, now: number): void {
        this.#chats.get(chat)?.timeline.noteHead(seq);
        this.#fetchGap(chat, now);
    }

    #history(chat: string, page: HistoryPage, now: number): void {
        const followed = this.#chats.get(chat);
        if (!followed) return;
        followed.history = { is: "idle", at: now };
        followed.timeline.noteHead(page.head_seq);
        for (const message of followed.timeline.beginAt(page.from_seq)) {
            this.#event({ type: "entry", message, origin: "pushed" });
        }
        for (const message of page.messages) this.#apply(message, "refetched");
        // An empty page below the head would be fetched in a tight loop.
        this.#fetchGap(chat, page.messages.length > 0 ? now : now + RETRY_AFTER_MS);
    }

    #historyRefused(chat: string, error: WireError, now: number): void {
        if (error.temporary || error.code === "token_expired") {
            const followed = this.#chats.get(chat);
            if (followed) followed.history = { is: "due", at: now + wait(error) };
        } else {
            this.#chats.delete(chat);
            this.#event({ type: "unreadable", chat, code: error.code });
        }
    }

    /** Fetches what the followed chats have more, and hands the page on. */
    #synced(page: SyncPage, now: number): void {
        this.#cursor = page.cursor;
        this.#sync = { is: page.more ? "due" : "idle", at: now };
        for (const { chat, head_seq } of page.chats) this.#noteHead(chat, head_seq, now);
        const all = page.all_chats && new Set(page.all_chats);
        if (all) {
            // The server says why a chat that is not among them cannot be read.
            for (const [chat, followed] of this.#chats) {
                if (!all.has(chat) && followed.history.is === "idle") followed.history = { is: "due", at: now };
            }
        }
        this.#event({ type: "synced", page });
    }

    #syncRefused(error: WireError, now: number): void {
        this.#sync = { is: "due", at: now + wait(error) };
        if (error.code !== "cursor_expired") return;
        // Nothing is known of what happened since: each chat is compared.
        this.#cursor = undefined;
        for (const followed of this.#chats.values()) {
            if (followed.history.is === "idle") followed.history = { is: "due", at: now };
        }
    }

    /** Says a mark again that was refused for now. One that is refused for good is as if it had not been said. */
    #markRefused(said: Said, error: WireError, now: number): void {
        const marks = this.#marksOf(said.mark);
        const mark = this.#watermarkOf(said);
        // What is read counts as received, and so does its refusal.
        marks.delivered.said = marks.delivered.taken;
        mark.said = mark.taken;
        if (error.temporary) marks.heldUntil = now + Math.max(wait(error), MARK_PAUSE_MS);
        else if (mark.seq === said.seq) mark.seq = mark.taken;
    }

    #request(pending: Pending, command: Command): void {
        const online = this.#online;
        if (!online) return;
        const id = online.nextId++;
        online.pending.set(id, pending);
        this.#outputs.push({ frame: { id, ...command } });
    }

    /** Waits no more for the answer to a send that is repeated: it would take a place of those that may be unanswered. */
    #forgetSend(key: string): void {
        const online = this.#online;
        if (!online) return;
        for (const [id, pending] of online.pending) {
            if (!("send" in pending) || pending.send !== key) continue;
            online.pending.delete(id);
            online.unansweredSends -= 1;
        }
    }

    /** Waits no more for the answer to a history request that is repeated: it would take a place of those that may be unanswered. */
    #forgetHistory(chat: string): void {
        for (const [id, pending] of this.#online?.pending ?? []) {
            if ("history" in pending && pending.history === chat) this.#online?.pending.delete(id);
        }
    }

    #countPending(kind: "mark" | "history"): number {
        let count = 0;
        for (const pending of this.#online?.pending.values() ?? []) count += kind in pending ? 1 : 0;
        return count;
    }

    #answered(id: ServerFrame["id"]): Pending | undefined {
        if (typeof id !== "number" || !this.#online) return undefined;
        const pending = this.#online.pending.get(id);
        this.#online.pending.delete(id);
        if (pending && "send" in pending) this.#online.unansweredSends -= 1;
        return pending;
    }

    #unanswered(command: Command): void {
        if (this.#online) this.#outputs.push({ frame: command });
    }

    #event(event: Event): void {
        this.#outputs.push({ event });
    }
}

/** Returns whether an error is about the token, and a new one may mend it. */
export function isOfToken(error: WireError): boolean {
    return error.code === "token_expired" || error.code === "unauthenticated";
}

function wait(error: WireError): number {
    return error.retry_after_ms ?? RETRY_AFTER_MS;
}

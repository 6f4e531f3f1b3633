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
    Outcome,
    OwnState,
    Receipt,
    ServerFrame,
    Stored,
    SyncPage,
    TypingUser,
    UserPresence,
    Watch,
} from "./generated/socket.js";
import { marking, Marks, type Said } from "./machine/marks.js";
import { isLost, Sync, type Fetch } from "./machine/sync.js";
import { ANSWER_PATIENCE_MS, RETRY_AFTER_MS, wait } from "./machine/wait.js";
import { command, entry, takesAck, type Ack, type Command, type Post } from "./post.js";
import { Timeline } from "./timeline.js";

/** An accepted message whose seq was not announced in this time is sent again, which returns its seq. */
const STORED_PATIENCE_MS = 10_000;
/** That time doubles to this one with each repetition, each of which is a record more in the log while nothing is announced. */
const MAX_STORED_PATIENCE_MS = 300_000;
/** Marks and histories without an answer: the server answers two queries at a time, and a send is behind what was sent before it. */
const MAX_UNANSWERED_MARKS = 4;
const MAX_UNANSWERED_HISTORIES = 4;
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
    /** The connection is down, or an attempt to connect failed; the session connects again by itself. */
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
    /** The answer to {@link Machine.query}; without an outcome there was none, because the connection was lost. */
    | { type: "answered"; query: number; result?: Outcome; error?: WireError }
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

/** `patienceMs` is how long it waits for its seq once it is accepted. */
type Queued = Outgoing & { transmissions: number; transmission: Transmission; patienceMs: number };

type Followed = { timeline: Timeline; history: Fetch };

type Pending =
    | { send: string }
    | { history: string }
    | { refresh: true }
    | { watch: true }
    | { sync: true }
    | { query: number }
    | Said;

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
    readonly #sync: Sync;
    readonly #marks = new Marks();
    readonly #ack: Ack;
    #outputs: Output[] = [];
    #queries = 0;

    /** Creates a machine that goes on at a cursor of an earlier one, or begins with all chats. Its texts are answered as `ack` says. */
    constructor(user: string, cursor?: string, ack: Ack = "accepted") {
        this.#user = user;
        this.#ack = ack;
        this.#sync = new Sync(cursor);
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
        const transmission: Transmission = { is: "due", at: now };
        const patienceMs = STORED_PATIENCE_MS;
        this.#outbox.set(key, { chat, key, post, transmissions: 0, transmission, patienceMs });
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

    /** Asks which chats changed. */
    sync(now: number): void {
        this.#sync.ask(now);
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
        this.#marks.read(chat, seq);
        this.#pump(now);
    }

    /** Says that this device has received a chat up to `seq`. */
    delivered(chat: string, seq: number, now: number): void {
        this.#marks.delivered(chat, seq);
        this.#pump(now);
    }

    /** Asks once, on this connection. The answer comes as `answered` with the number that is returned. */
    query(command: Command): number {
        const query = ++this.#queries;
        if (this.#online) this.#request({ query }, command);
        else this.#event({ type: "answered", query });
        return query;
    }

    #forgetQueries(): void {
        for (const pending of this.#online?.pending.values() ?? []) {
            if ("query" in pending) this.#event({ type: "answered", query: pending.query });
        }
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
            if (isUnanswered || this.#sync.begins) followed.history = { is: "due", at: now };
        }
        this.#sync.begin(now);
        this.#marks.connected();
        // A connection begins as online and watches nothing.
        if (this.#activity !== "online") this.activity(this.#activity);
        this.#watchAt = this.#watch ? now : Infinity;
        this.#event({ type: "connected", session: connected.session });
        this.#pump(now);
    }

    /** Notes that the connection is down, or that it could not be made. */
    disconnected(why: string): void {
        this.#forgetQueries();
        this.#online = undefined;
        this.#event({ type: "disconnected", why });
    }

    /** Ends the session: whether what is in the outbox is stored stays unknown. */
    ended(why: string): void {
        this.#forgetQueries();
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
            const { chat, head_seq } = frame.lagged;
            this.#noteHead(chat, head_seq, now);
            // It may be a new chat, which nothing else tells of.
            if (!this.#chats.has(chat) || !this.#sync.names(chat)) this.#sync.miss(chat, head_seq, now);
        }
        if (frame.receipt && this.#marks.receipt(frame.receipt)) {
            this.#event({ type: "marked", receipt: frame.receipt });
        }
        if (frame.own_state) this.#event({ type: "own_state", ownState: frame.own_state });
        if (frame.presence) this.#event({ type: "presence", users: frame.presence.users });
        if (frame.typing) this.#event({ type: "typing", typing: frame.typing });
        const pending = this.#answered(frame.id);
        if (pending) this.#answer(pending, frame, now);
        this.#pump(now);
    }

    /** Repeats what stayed without an answer. */
    tick(now: number): void {
        for (const queued of this.#outbox.values()) {
            const { is, at } = queued.transmission;
            if (is === "due") continue;
            const hasOneAnswer = this.#hasOneAnswer(queued);
            let patience = is === "accepted" ? queued.patienceMs : ANSWER_PATIENCE_MS;
            if (hasOneAnswer) patience = Math.max(ANSWER_PATIENCE_MS, queued.patienceMs);
            if (now - at < patience) continue;
            if (is === "accepted" || hasOneAnswer) {
                queued.patienceMs = Math.min(2 * queued.patienceMs, MAX_STORED_PATIENCE_MS);
            }
            queued.transmission = { is: "due", at: now };
            this.#forgetSend(queued.key);
        }
        for (const [chat, followed] of this.#chats) {
            if (!isLost(followed.history, now)) continue;
            followed.history = { is: "due", at: now };
            this.#forgetHistory(chat);
        }
        this.#sync.tick(now);
        for (const [id, pending] of this.#online?.pending ?? []) {
            if ("mark" in pending && this.#marks.tick(pending, now)) this.#online?.pending.delete(id);
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
        } else if ("query" in pending) {
            const answer = { ...(result && { result }), ...(error && { error }) };
            this.#event({ type: "answered", query: pending.query, ...answer });
        } else if ("mark" in pending) {
            if (error) this.#marks.refused(pending, error, now);
            else if (result) this.#marks.taken(pending);
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
        const sync = this.#sync.request(now);
        if (sync) this.#request({ sync: true }, { sync });
        const room = MAX_UNANSWERED_MARKS - this.#countPending("mark");
        for (const said of this.#marks.due(room, now)) this.#request(said, marking(said));
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
            this.#request({ send: queued.key }, command(queued.post, queued.chat, queued.key, this.#ack));
        }
    }

    /** Returns whether its seq or its rejection is the only answer to a send. */
    #hasOneAnswer({ post }: Queued): boolean {
        return this.#ack === "stored" && takesAck(post);
    }

    /** Takes a message out whose fate is known. */
    #remove(queued: Queued): void {
        this.#outbox.delete(queued.key);
        if (!this.#hasOneAnswer(queued)) return;
        // This was it.
        this.#forgetSend(queued.key);
        this.#widen();
    }

    #widen(): void {
        if (this.#online) this.#online.window = Math.min(this.#online.window + 1, this.#online.maxInflight);
    }

    #accepted(key: string, now: number): void {
        this.#widen();
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
        this.#remove(queued);
        this.#event({ type: "send", chat: queued.chat, key, state: { state: "failed", code } });
    }

    #stored(stored: Stored, now: number): void {
        const { chat, key, seq, sent_at_ms } = stored;
        const queued = this.#outbox.get(key);
        const isKnown = queued && sent_at_ms !== undefined;
        const own = isKnown ? entry(queued.post, this.#user, stored, sent_at_ms) : undefined;
        if (own) this.#entry(own, "own", now);
        else {
            this.#noteHead(chat, seq, now);
            if (!this.#chats.has(chat)) this.#sync.miss(chat, seq, now);
        }
        this.#settleStored(key, seq);
    }

    #settleStored(key: string, seq: number): void {
        const queued = this.#outbox.get(key);
        if (!queued) return;
        this.#remove(queued);
        const resends = Math.max(0, queued.transmissions - 1);
        this.#event({ type: "send", chat: queued.chat, key, state: { state: "stored", seq, resends } });
    }

    /** Settles an own message that came as an entry: its announcement may be lost. */
    #settleEntry({ chat, sender, key, seq }: Message): void {
        if (sender === this.#user && this.#outbox.get(key)?.chat === chat) this.#settleStored(key, seq);
    }

    #entry(message: Message, origin: Origin, now: number): void {
        const { chat, seq } = message;
        if (this.#chats.has(chat)) {
            this.#apply(message, origin, now);
            this.#fetchGap(chat, now);
            return;
        }
        if (this.#isOwnRemoval(message)) this.#sync.forget(chat);
        else this.#sync.note(chat, seq, now);
        this.#event({ type: "elsewhere", message });
        this.#settleEntry(message);
    }

    #isOwnRemoval({ kind, subject }: Message): boolean {
        return kind === "member_removed" && subject === this.#user;
    }

    #apply(offered: Message, origin: Origin, now: number): void {
        const followed = this.#chats.get(offered.chat);
        if (!followed) return;
        for (const message of followed.timeline.offer(offered)) {
            // What waited beyond a gap came by a push, whichever way the gap was filled.
            this.#handOut(message, message.seq === offered.seq ? origin : "pushed", now);
        }
        this.#settleEntry(offered);
    }

    /** Hands out the next entry of a followed chat. */
    #handOut(message: Message, origin: Origin, now: number): void {
        const { chat, seq, kind, subject } = message;
        const isOwnAddition = kind === "member_added" && subject === this.#user;
        if (this.#isOwnRemoval(message)) this.#sync.forget(chat);
        // It may not follow the last one that is known: the history of the user may begin with it.
        else if (this.#sync.names(chat) || isOwnAddition) this.#sync.note(chat, seq, now);
        this.#event({ type: "entry", message, origin });
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
        for (const message of followed.timeline.beginAt(page.from_seq)) this.#handOut(message, "pushed", now);
        for (const message of page.messages) this.#apply(message, "refetched", now);
        // An empty page below the head would be fetched in a tight loop.
        this.#fetchGap(chat, page.messages.length > 0 ? now : now + RETRY_AFTER_MS);
    }

    #historyRefused(chat: string, error: WireError, now: number): void {
        const followed = this.#chats.get(chat);
        if (error.temporary || error.code === "token_expired") {
            if (followed) followed.history = { is: "due", at: now + wait(error) };
        } else {
            this.#chats.delete(chat);
            this.#event({ type: "unreadable", chat, code: error.code });
            // The gap before it stays, and it says why.
            const removal = followed?.timeline.held.findLast((message) => this.#isOwnRemoval(message));
            if (removal) this.#entry(removal, "pushed", now);
        }
    }

    /** Fetches what the followed chats have more, and hands the page on. */
    #synced(page: SyncPage, now: number): void {
        this.#sync.take(page, now);
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
        if (!this.#sync.refused(error, now)) return;
        // Nothing is known of what happened since: each chat is compared.
        for (const followed of this.#chats.values()) {
            if (followed.history.is === "idle") followed.history = { is: "due", at: now };
        }
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

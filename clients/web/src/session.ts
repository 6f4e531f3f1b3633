// Runs the protocol on a socket, and on the next one when that breaks.
import type {
    Activity,
    Connected,
    Connect,
    History,
    HistoryPage,
    ListPage,
    Outcome,
    ServerFrame,
    Watch,
} from "./generated/socket.js";
import { codec, offered, type Codec, type Encoding } from "./codec.js";
import { newKey } from "./key.js";
import { BackOff, ending, Pulse, SESSION_ENDED, Wakes, type Ending } from "./link.js";
import { isOfToken, Machine, type ErrorCode, type Event, type Outgoing } from "./machine.js";
import { CallError, type Identity } from "./messenger.js";
import { MemoryOutbox, type Outbox } from "./outbox.js";
import type { Ack, Command, Post } from "./post.js";

/** The id of `connect`, the first command. */
const CONNECT_ID = 1;
/** The answer to `connect` comes within this time. */
const CONNECT_TIMEOUT_MS = 10_000;
/** How often the machine looks at the time. */
const TICK_MS = 200;

/** A message that is stored. `seq` is its number in the chat, `resends` how often it was sent again under the same key. */
export type Receipt = { key: string; seq: number; resends: number };

/** A message that is not stored; without a `code` it is not known whether it is. */
export class SendError extends Error {
    override readonly name = "SendError";

    constructor(
        readonly key: string,
        readonly code?: ErrorCode,
    ) {
        super(
            code
                ? `the messenger refused the message: ${code}`
                : "the session ended before the message was known to be stored",
        );
    }
}

/** A question that has no answer; without a `code` because there is no connection: ask again on the next one. */
export class QueryError extends Error {
    override readonly name = "QueryError";

    constructor(readonly code?: ErrorCode) {
        super(code ? `the messenger refused the question: ${code}` : "there is no connection to the messenger");
    }
}

/** What a session may be given. */
export type SessionOptions = {
    /** The id of this installation of the program, to be kept; a new one when absent. */
    device?: string;
    /** Where messages are kept that are not known to be stored; in memory when absent. */
    outbox?: Outbox;
    /** Where an earlier session ended: the cursor of the last page of `synced` that the program took, together with the `ChatList` that it
     *  kept. An expired one begins with all chats, and so does none. */
    cursor?: string;
    /** How frames are written. `json`, the default, is read in the tools of a browser; `cbor` has less than half of the bytes. A server that
     *  does not know it speaks JSON. */
    encoding?: Encoding;
    /** What answers a text. With `stored` it takes half of the frames, and is never reported as `accepted`. A server of before this was known
     *  refuses texts that ask for it. */
    ack?: Ack;
};

type Settle = { resolve: (receipt: Receipt) => void; reject: (error: SendError) => void };

/** A user's connection to the messenger, for as long as it is kept. Add listeners before anything else. */
export class Session {
    readonly #identity: Identity;
    readonly #device: string;
    readonly #encoding: Encoding;
    readonly #outbox: Outbox;
    readonly #machine: Machine;
    readonly #backOff = new BackOff();
    readonly #wakes = new Wakes();
    readonly #listeners = new Map<Event["type"], Set<(event: never) => void>>();
    readonly #settles = new Map<string, Settle[]>();
    readonly #queries = new Map<number, (answer: Extract<Event, { type: "answered" }>) => void>();
    readonly #loaded: Promise<void>;
    /** The last message that the outbox was given: the next one waits for it, so that they keep the order of the calls. */
    #lastPut: Promise<void> = Promise.resolve();
    #socket: WebSocket | undefined;
    /** Of the socket, once it is open. */
    #codec: Codec | undefined;
    #pulse: Pulse | undefined;
    /** The last one that the server was given on this connection. */
    #token = "";
    #connectedAt: number | undefined;
    #connectTimer: ReturnType<typeof setTimeout> | undefined;
    /** The next attempt, while there is none. */
    #retrying: { timer: ReturnType<typeof setTimeout>; fresh: boolean } | undefined;
    #tick: ReturnType<typeof setInterval> | undefined;
    #isFresh = false;
    #isOver = false;
    #closeCode: number | undefined;
    #isSignInOver = false;

    /** The code that the last connection was closed with, by the server or by the network; `CLOSE_CODES` has those of the server. */
    get closeCode(): number | undefined {
        return this.#closeCode;
    }

    /** Whether it ended because the sign-in is over, as one that was ended elsewhere or is too old: what a program keeps of the user is to go. */
    get isSignInOver(): boolean {
        return this.#isSignInOver;
    }

    /** Opens a session; connecting is part of it, and so is connecting again. */
    constructor(identity: Identity, options: SessionOptions = {}) {
        this.#identity = identity;
        this.#device = options.device ?? crypto.randomUUID();
        this.#encoding = options.encoding ?? "json";
        this.#outbox = options.outbox ?? new MemoryOutbox();
        this.#machine = new Machine(identity.user, options.cursor, options.ack);
        this.#loaded = this.#outbox.load().then((kept) => {
            for (const outgoing of kept) this.#machine.send(outgoing, now());
            this.#deliver();
        });
        this.#loaded.then(
            () => {
                if (this.#isOver) return;
                this.#tick = setInterval(() => this.#onTick(), TICK_MS);
                void this.#connect(false);
            },
            (error: unknown) => this.#end(`the outbox cannot be read: ${String(error)}`),
        );
    }

    /** Calls `listener` for every event of a type. Returns a function that ends it. */
    on<Type extends Event["type"]>(
        type: Type,
        listener: (event: Extract<Event, { type: Type }>) => void,
    ): () => void {
        const listeners = this.#listeners.get(type) ?? new Set();
        this.#listeners.set(type, listeners);
        listeners.add(listener);
        return () => listeners.delete(listener);
    }

    /** Sends a message, or a change of one, in the order of the calls. Resolves once it is stored and rejects with a `SendError`. */
    async send(chat: string, post: Post | string, key: string = newKey()): Promise<Receipt> {
        const outgoing: Outgoing = {
            chat,
            key,
            post: typeof post === "string" ? { kind: "text", body: post } : post,
        };
        const put = this.#lastPut.then(() => this.#loaded).then(() => this.#outbox.put(outgoing));
        // One that cannot be kept is not sent, and holds no other back.
        this.#lastPut = put.catch(() => undefined);
        await put;
        if (this.#isOver) throw new SendError(key);
        return new Promise((resolve, reject) => {
            this.#settles.set(key, [...(this.#settles.get(key) ?? []), { resolve, reject }]);
            this.#machine.send(outgoing, now());
            this.#deliver();
        });
    }

    /** Hands out every entry of `chat` after `after` from now on, those already stored first. */
    follow(chat: string, after = 0): void {
        this.#machine.follow(chat, after, now());
        this.#deliver();
    }

    /** Lists the pinned messages of a chat, the one that was pinned last first; `before` is `changes.pinned_seq` of the last one of the page before. */
    async pins(chat: string, options: { before?: number; limit?: number } = {}): Promise<ListPage> {
        return this.#listed({ pins: { chat, ...options } });
    }

    /** Lists the replies to a message in the order of their seq; `after` is the seq of the last one of the page before. */
    async replies(
        chat: string,
        seq: number,
        options: { after?: number; limit?: number } = {},
    ): Promise<ListPage> {
        return this.#listed({ replies: { chat, seq, ...options } });
    }

    /** Fetches a page of history that belongs to no followed chat: from a time on, or around a message. */
    async history(query: History): Promise<HistoryPage> {
        const { history } = await this.#ask({ history: query });
        if (!history) throw new QueryError("internal");
        return history;
    }

    async #listed(command: Command): Promise<ListPage> {
        const { listed } = await this.#ask(command);
        if (!listed) throw new QueryError("internal");
        return listed;
    }

    /** Asks once, on the connection that there is. */
    #ask(command: Command): Promise<Outcome> {
        return new Promise((resolve, reject) => {
            const query = this.#machine.query(command);
            this.#queries.set(query, ({ result, error }) => {
                if (result) resolve(result);
                else reject(new QueryError(error?.code));
            });
            this.#deliver();
        });
    }

    /** Replaces what is seen of the presence of others: what is on the user's screen. It holds over connections. */
    watch(watch: Watch): void {
        this.#machine.watch(watch, now());
        this.#deliver();
    }

    /** Asks which chats changed, which comes as `synced`. Each connection begins with that, and what is pushed keeps a `ChatList`
     *  current; it is for a program that does not trust its own. */
    sync(): void {
        this.#machine.sync(now());
        this.#deliver();
    }

    /** Says whether the user is at this device; a session begins as online. */
    activity(state: Activity["state"]): void {
        this.#machine.activity(state);
        this.#deliver();
    }

    /** Says that the user is typing in a chat; to be repeated every few seconds while they do. */
    typing(chat: string): void {
        this.#machine.typing(chat);
        this.#deliver();
    }

    /** Says that the user has read a chat up to an entry, as often as it is so: what is sent is bounded, and repeated until it arrives. */
    read(chat: string, seq: number): void {
        this.#machine.read(chat, seq, now());
        this.#deliver();
    }

    /** Says that this device has received a chat up to an entry; likewise. */
    delivered(chat: string, seq: number): void {
        this.#machine.delivered(chat, seq, now());
        this.#deliver();
    }

    /**
     * Says that the network or the machine may be back, as often as it seems so: it is heeded every few seconds at most. Without a connection
     * the next attempt is made now, and those after it follow soon. A connection has five seconds to show that it is one, or is replaced.
     */
    wake(): void {
        if (this.#isOver) return;
        this.#wakes.note(now());
        this.#heedWakes();
    }

    /** Ends the session. What is not known to be stored stays in the outbox. */
    close(): void {
        this.#end("closed");
    }

    #heedWakes(): void {
        if (!this.#wakes.isDue(now())) return;
        this.#backOff.reset();
        if (this.#pulse) {
            // The gateway answers it by itself. A token that has expired during a sleep is refused, and then replaced.
            this.#pulse.probed(now());
            this.#machine.refresh(this.#token);
            this.#deliver();
        } else if (this.#retrying) {
            const { timer, fresh } = this.#retrying;
            clearTimeout(timer);
            void this.#connect(fresh);
        }
    }

    async #connect(fresh: boolean): Promise<void> {
        this.#retrying = undefined;
        let token: string;
        try {
            token = await this.#identity.token(fresh);
        } catch (error) {
            if (error instanceof CallError && !error.isTemporary && error.status === 401) {
                this.#isSignInOver = true;
                this.#end("the session has ended: sign in again");
            } else this.#retry(error instanceof Error ? error.message : String(error), false);
            return;
        }
        if (this.#isOver) return;
        this.#isFresh = fresh;
        this.#token = token;
        let socket: WebSocket;
        try {
            socket = new WebSocket(this.#identity.messenger.socket, offered(this.#encoding));
        } catch (error) {
            // A browser refuses the address itself, such as an open one on a page that is encrypted. No later attempt does better.
            this.#end(`there can be no connection: ${String(error)}`);
            return;
        }
        socket.binaryType = "arraybuffer";
        this.#socket = socket;
        this.#connectTimer = setTimeout(() => this.#drop("no answer to connect"), CONNECT_TIMEOUT_MS);
        const connect: Connect = { token, device: this.#device };
        const isCurrent = () => this.#socket === socket;
        socket.onopen = () => {
            if (!isCurrent()) return;
            this.#codec = codec(socket.protocol);
            socket.send(this.#codec.encode({ id: CONNECT_ID, connect }));
        };
        socket.onmessage = ({ data }) => isCurrent() && this.#onMessage(data);
        socket.onclose = ({ code, reason }) => {
            if (!isCurrent()) return;
            this.#closeCode = code;
            this.#isSignInOver = code === SESSION_ENDED;
            this.#lost(`closed: ${code} ${reason}`, ending(code));
        };
        // `close` follows.
        socket.onerror = () => undefined;
    }

    #onMessage(data: unknown): void {
        let frame: ServerFrame;
        try {
            if (!this.#codec) throw new TypeError("before the socket was open");
            frame = this.#codec.decode(data) as ServerFrame;
        } catch {
            this.#end("the server sent a frame of another protocol");
            return;
        }
        this.#pulse?.received(now());
        this.#wakes.received();
        if (!this.#pulse) {
            if (frame.result?.connected) this.#onConnected(frame.result.connected);
            else if (frame.error) {
                const why = `${frame.error.code}: ${frame.error.detail}`;
                if (isOfToken(frame.error)) this.#drop(why, "renew");
                else this.#drop(why, frame.error.temporary ? "reconnect" : "stop");
            }
            return;
        }
        this.#machine.frame(frame, now());
        this.#deliver();
    }

    #onConnected(connected: Connected): void {
        clearTimeout(this.#connectTimer);
        this.#isFresh = false;
        this.#connectedAt = now();
        this.#closeCode = undefined;
        this.#pulse = new Pulse(connected, now());
        this.#machine.connected(connected, now());
        this.#deliver();
    }

    #onTick(): void {
        this.#heedWakes();
        const pulse = this.#pulse;
        if (pulse?.isSilent(now())) this.#drop("the server fell silent");
        else if (pulse?.isRefreshDue(now())) void this.#refresh(pulse);
        this.#machine.tick(now());
        this.#deliver();
    }

    async #refresh(pulse: Pulse): Promise<void> {
        try {
            const token = await this.#identity.token(true);
            if (this.#pulse !== pulse) return;
            this.#token = token;
            this.#machine.refresh(token);
            this.#deliver();
        } catch {
            // The connection lives until its token ends, and connecting again says what is wrong.
            pulse.renewLater(now());
        }
    }

    /** Ends a connection from this side, without waiting for the other's answer. */
    #drop(why: string, next: Ending = "reconnect"): void {
        const socket = this.#socket;
        this.#lost(why, next);
        socket?.close();
    }

    #lost(why: string, next: Ending): void {
        clearTimeout(this.#connectTimer);
        this.#socket = undefined;
        this.#codec = undefined;
        this.#pulse = undefined;
        // A token that is refused although it was made for this attempt stays refused.
        if (next === "renew" && this.#isFresh) this.#end("the messenger does not take this sign-in");
        else if (next === "stop") this.#end(why);
        else this.#retry(why, next === "renew");
    }

    #retry(why: string, fresh: boolean): void {
        if (this.#isOver) return;
        this.#machine.disconnected(why);
        this.#deliver();
        const lived = this.#connectedAt === undefined ? 0 : now() - this.#connectedAt;
        this.#connectedAt = undefined;
        const waitMs = this.#backOff.next(Math.random(), lived);
        this.#retrying = { timer: setTimeout(() => void this.#connect(fresh), waitMs), fresh };
    }

    #end(why: string): void {
        if (this.#isOver) return;
        this.#isOver = true;
        clearInterval(this.#tick);
        clearTimeout(this.#connectTimer);
        clearTimeout(this.#retrying?.timer);
        const socket = this.#socket;
        this.#socket = undefined;
        this.#codec = undefined;
        this.#pulse = undefined;
        this.#machine.ended(why);
        this.#deliver();
        socket?.close();
    }

    /** Carries out what the machine decided. */
    #answered(answer: Extract<Event, { type: "answered" }>): void {
        const settle = this.#queries.get(answer.query);
        this.#queries.delete(answer.query);
        settle?.(answer);
    }

    #deliver(): void {
        let isRefused = false;
        const wasOver = this.#isOver;
        for (const output of this.#machine.take()) {
            if ("frame" in output) this.#say(output.frame);
            else if ("tokenRefused" in output) isRefused = true;
            else if ("refreshLater" in output) this.#pulse?.renewLater(now());
            else if ("tokenExpiresInSeconds" in output)
                this.#pulse?.renewed(output.tokenExpiresInSeconds, now());
            else if (output.event.type === "answered") this.#answered(output.event);
            // A listener may have ended the session, which was the last event; what became of a send is still for its caller.
            else if (!this.#isOver || wasOver) this.#emit(output.event);
            else if (output.event.type === "send") this.#settle(output.event);
        }
        if (isRefused) this.#drop("the token expired", "renew");
    }

    #say(frame: object): void {
        if (this.#codec) this.#socket?.send(this.#codec.encode(frame));
    }

    #emit(event: Event): void {
        if (event.type === "send") this.#settle(event);
        for (const listener of this.#listeners.get(event.type) ?? []) {
            try {
                (listener as (event: Event) => void)(event);
            } catch (error) {
                // A fault of the program's listener is the program's, and does not stop the protocol.
                queueMicrotask(() => {
                    throw error;
                });
            }
        }
    }

    #settle({ key, state }: Extract<Event, { type: "send" }>): void {
        if (state.state === "sending" || state.state === "accepted") return;
        const settles = this.#settles.get(key) ?? [];
        this.#settles.delete(key);
        // One that stays in the outbox is sent again, which the same key makes harmless.
        if (state.state !== "unknown") this.#outbox.remove(key).catch(() => undefined);
        for (const { resolve, reject } of settles) {
            if (state.state === "stored") resolve({ key, seq: state.seq, resends: state.resends });
            else reject(new SendError(key, state.state === "failed" ? state.code : undefined));
        }
    }
}

/** Milliseconds of a clock that does not go back. */
function now(): number {
    return performance.now();
}

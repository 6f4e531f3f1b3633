// A messenger of one chat that speaks the protocol, in place of `fetch` and `WebSocket`.
import type { socket } from "@posthouse/client";
import { vi } from "vitest";
import { ANNA, CHAT, chatState, entry, ME, profile } from "./stand";

type Frame = { id?: number } & Partial<socket.Commands>;

/** Keeps one chat's log and answers one user. */
export class FakeMessenger {
    readonly log: socket.Message[] = [];
    /** After which entry histories were asked for. */
    readonly histories: number[] = [];
    /** Calls of the REST API, as `METHOD path`. */
    readonly calls: string[] = [];
    /** What a test answers, by `METHOD path`. */
    readonly answers = new Map<string, (body: unknown) => [number, unknown]>();
    /** Whether a token is taken. */
    isSignedIn = true;
    #socket: FakeSocket | undefined;
    /** While it is not reachable. */
    isDown = false;
    /** While it takes no connections, and answers calls. */
    isDeaf = false;
    /** While a connection is begun and comes to nothing. */
    isSlow = false;
    /** How the one chat is, and who of the users that are watched is how. */
    chat: Partial<socket.ChatState> = {};
    presences: socket.UserPresence[] = [];

    install(): void {
        const messenger = this;
        vi.stubGlobal(
            "WebSocket",
            class extends FakeSocket {
                constructor() {
                    super(messenger);
                }
            },
        );
        vi.stubGlobal(
            "fetch",
            vi.fn((input: URL | string, init: RequestInit = {}) =>
                this.#fetch(new URL(input, "http://acme.localhost"), init),
            ),
        );
    }

    /** Another user writes. */
    say(body: string): void {
        const message = entry(this.log.length + 1, { body });
        this.log.push(message);
        this.#socket?.push({ message });
    }

    /** Loses the connection, and is not reachable. */
    down(): void {
        this.isDown = true;
        this.#socket?.drop();
    }

    /** Ends the session of the user, as another device of theirs does. */
    end(): void {
        this.#socket?.drop(3505);
    }

    up(): void {
        this.isDown = false;
    }

    connect(connection: FakeSocket): void {
        this.#socket = connection;
    }

    take(frame: Frame): void {
        const answer = (result: socket.Outcome) => this.#socket?.push({ id: frame.id!, result });
        if (frame.connect) {
            const limits = {
                ping_seconds: 25,
                pong_seconds: 10,
                max_inflight: 16,
                max_frame_bytes: 65_536,
                max_body_bytes: 16_384,
            };
            answer({ connected: { session: "s", user: ME, token_expires_in_seconds: 300, ...limits } });
        } else if (frame.sync) {
            const entries = this.log.slice(-1);
            const state = chatState({ head_seq: this.log.length, entries, ...this.chat });
            answer({ synced: { chats: [state], cursor: "c", more: false, unread: 0, mentions: 0 } });
        } else if (frame.history) {
            const { after, before } = frame.history;
            this.histories.push(after ?? 0);
            const messages = this.log.filter(({ seq }) => seq > (after ?? 0) && seq < (before ?? Infinity));
            answer({ history: { chat: CHAT, messages, head_seq: this.log.length, from_seq: 1 } });
        } else if (frame.send) {
            const { key, body } = frame.send;
            let message = this.log.find((known) => known.key === key);
            if (!message) this.log.push((message = entry(this.log.length + 1, { sender: ME, key, body })));
            answer({ accepted: {} });
            this.#socket?.push({
                stored: { chat: CHAT, key, seq: message.seq, sent_at_ms: message.sent_at_ms },
            });
        } else if (frame.watch) answer({ watching: { users: this.presences } });
        else if (frame.id !== undefined) answer({ accepted: {} });
    }

    async #fetch(url: URL, { method = "GET", body: sent }: RequestInit): Promise<Response> {
        this.calls.push(`${method} ${url.pathname}`);
        if (this.isDown) throw new TypeError("failed to fetch");
        const given: unknown = typeof sent === "string" ? JSON.parse(sent) : undefined;
        const [status, body] = this.#answer(method, url.pathname, given);
        const text = status === 204 ? null : JSON.stringify(body);
        return new Response(text, { status, headers: { "content-type": "application/json" } });
    }

    #answer(method: string, path: string, body: unknown): [number, unknown] {
        const problem = {
            type: "urn:posthouse:error:unauthenticated",
            title: "",
            status: 401,
            code: "unauthenticated",
        };
        if (path === "/api/auth/sign-in" && !this.isSignedIn) return [401, problem];
        if (path === "/api/auth/sign-in") {
            return [
                200,
                {
                    access_token: "a",
                    expires_in_seconds: 300,
                    refresh_token: "r",
                    refresh_expires_in_seconds: 1_800,
                },
            ];
        }
        if (path === "/api/auth/sessions")
            return [
                200,
                { items: [{ session_id: "s", is_current: true, started_at_ms: 0, last_used_at_ms: 0 }] },
            ];
        if (path === "/api/auth/refresh" && !this.isSignedIn) return [401, problem];
        if (path === "/api/users/me") return [200, profile(ME, "me", "Me Myself")];
        if (path === `/api/users/${ANNA}`) return [200, profile(ANNA, "anna", "Anna")];
        const answer = this.answers.get(`${method} ${path}`);
        if (answer) return answer(body);
        if (path === "/api/notifications/channels")
            return [200, { email: true, fcm: false, sms: true, web_push_key: "BAAA" }];
        if (path === "/api/notifications/preferences")
            return [200, method === "PUT" ? body : { level: "all", shows_text: true }];
        if (path.endsWith("/members")) return [200, { items: [{ user_id: ANNA, role: "member" }] }];
        return [200, method === "PATCH" ? chatState().own : { items: [] }];
    }
}

/** The part of a WebSocket that the library uses. */
class FakeSocket {
    readonly protocol = "posthouse.v1.json";
    binaryType = "arraybuffer";
    onopen: () => void = () => undefined;
    onmessage: (event: { data: string }) => void = () => undefined;
    onclose: (event: { code: number; reason: string }) => void = () => undefined;
    onerror: () => void = () => undefined;
    readonly #messenger: FakeMessenger;

    constructor(messenger: FakeMessenger) {
        this.#messenger = messenger;
        queueMicrotask(() => {
            if (messenger.isDown || messenger.isDeaf) return this.drop();
            if (messenger.isSlow) return;
            messenger.connect(this);
            this.onopen();
        });
    }

    send(text: string): void {
        const frame = JSON.parse(text) as Frame;
        queueMicrotask(() => this.#messenger.take(frame));
    }

    close(): void {}

    push(frame: socket.ServerFrame): void {
        this.onmessage({ data: JSON.stringify(frame) });
    }

    drop(code = 1006): void {
        this.onclose({ code, reason: "" });
    }
}

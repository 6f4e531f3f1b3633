// The REST API of one tenant, as far as a session needs it, and a signed-in user of it.
import type { Problem, Registered, Tokens } from "./generated/auth.js";
import type {
    Chat,
    CreateChatRequest,
    OwnChatState,
    Page_Chat,
    Page_ScheduledMessage,
    RescheduleRequest,
    ScheduledMessage,
    ScheduleRequest,
    UpdateOwnChatStateRequest,
} from "./generated/chat.js";
import type { FoundChat, FoundChats, FoundMessages, FoundUser, FoundUsers } from "./generated/search.js";
import type { OwnProfile, Page_UserProfile } from "./generated/user.js";

const CALL_TIMEOUT_MS = 30_000;
/** A refresh ends within this time, so that there is time for another one with the same token: its answer is repeated for ten seconds. */
const REFRESH_TIMEOUT_MS = 3_000;
const REFRESH_ATTEMPTS = 3;
/** A token with less time left than this is replaced before it is used. */
const RENEW_BEFORE_MS = 45_000;

/** A call that failed; `status` is 0 when no response came. */
export class CallError extends Error {
    override readonly name = "CallError";

    constructor(
        message: string,
        readonly status: number,
        readonly problem?: Problem,
        options?: ErrorOptions,
    ) {
        super(message, options);
    }

    /** The code of a refusal, if the messenger gave one. */
    get code(): Problem["code"] | undefined {
        return this.problem?.code;
    }

    /** Whether the same call may succeed later without a change. */
    get isTemporary(): boolean {
        const temporary: unknown[] = ["rate_limited", "unavailable", "internal"];
        if (this.problem) return temporary.includes(this.problem.code);
        return this.status === 0 || this.status === 429 || this.status >= 500;
    }
}

/** What gives the tokens of a session: the auth service, or the realm where the user signed in on its page. */
export interface Issuer {
    /** Exchanges a refresh token, which is good once. Throws a `CallError`. */
    refresh(refreshToken: string, timeoutMs: number): Promise<Tokens>;
    /** Ends the session on all its connections. */
    end(identity: Identity, refreshToken: string): Promise<void>;
}

/** One tenant's messenger at an address. */
export class Messenger implements Issuer {
    readonly #base: URL;

    /** Takes the http or https address of a tenant. */
    constructor(base: string | URL) {
        this.#base = new URL(base);
        if (!["http:", "https:"].includes(this.#base.protocol)) {
            throw new TypeError(`${base} is not the http or https address of a messenger`);
        }
    }

    /** The address of the WebSocket. */
    get socket(): URL {
        const url = new URL("/ws", this.#base);
        url.protocol = this.#base.protocol === "https:" ? "wss:" : "ws:";
        return url;
    }

    /** Returns the address of a path. */
    url(path: string): URL {
        return new URL(path, this.#base);
    }

    register(username: string, password: string): Promise<Registered> {
        return this.call("POST", "/api/auth/register", { body: { username, password } });
    }

    /** Signs in by user name and password. */
    async signIn(username: string, password: string): Promise<Identity> {
        return this.identity(await this.call("POST", "/api/auth/sign-in", { body: { username, password } }));
    }

    /** Returns the user of tokens that `issuer` gave. */
    async identity(tokens: Tokens, issuer: Issuer = this): Promise<Identity> {
        const me: OwnProfile = await this.call("GET", "/api/users/me", { token: tokens.access_token });
        return new Identity(this, me.user_id, tokens, issuer);
    }

    refresh(refreshToken: string, timeoutMs: number): Promise<Tokens> {
        return this.call("POST", "/api/auth/refresh", { body: { refresh_token: refreshToken }, timeoutMs });
    }

    async end(_identity: Identity, refreshToken: string): Promise<void> {
        await this.call("POST", "/api/auth/sign-out", { body: { refresh_token: refreshToken } });
    }

    /** Makes one call and returns the body of its response. Throws a `CallError`. */
    async call<T>(
        method: string,
        path: string,
        options: { token?: string; body?: unknown; headers?: Record<string, string>; timeoutMs?: number } = {},
    ): Promise<T> {
        const headers: Record<string, string> = { ...options.headers };
        if (options.token !== undefined) headers["authorization"] = `Bearer ${options.token}`;
        if (options.body !== undefined) headers["content-type"] = "application/json";
        let response: Response;
        let text: string;
        try {
            response = await fetch(this.url(path), {
                method,
                headers,
                body: options.body === undefined ? null : JSON.stringify(options.body),
                signal: AbortSignal.timeout(options.timeoutMs ?? CALL_TIMEOUT_MS),
            });
            text = await response.text();
        } catch (cause) {
            const message = `failed to ${method} ${path}: ${this.#base.origin} does not respond`;
            throw new CallError(message, 0, undefined, { cause });
        }
        const body = parsed(text);
        if (response.ok) return body as T;
        const problem = isProblem(body) ? body : undefined;
        const why = problem ? ` (${problem.code}: ${problem.detail ?? problem.title})` : "";
        throw new CallError(
            `failed to ${method} ${path}: status ${response.status}${why}`,
            response.status,
            problem,
        );
    }
}

function parsed(text: string): unknown {
    try {
        return text === "" ? undefined : JSON.parse(text);
    } catch {
        return undefined;
    }
}

function isProblem(body: unknown): body is Problem {
    return typeof body === "object" && body !== null && "code" in body && typeof body.code === "string";
}

/** A signed-in user. The tokens are renewed as they are used. */
export class Identity {
    /** By a clock that is never set. */
    #expiresAt = 0;
    #tokens: Tokens;
    readonly #issuer: Issuer;
    #renewal: Promise<void> | undefined;

    constructor(
        readonly messenger: Messenger,
        readonly user: string,
        tokens: Tokens,
        issuer: Issuer = messenger,
    ) {
        this.#tokens = tokens;
        this.#issuer = issuer;
        this.#keep(tokens);
    }

    /** Returns an access token with time left on it, and a new one when `fresh`. */
    async token(fresh = false): Promise<string> {
        if (fresh || this.#expiresAt - performance.now() <= RENEW_BEFORE_MS) {
            // Refresh tokens rotate: two concurrent refreshes would spend the same one twice.
            this.#renewal ??= this.#renew().finally(() => (this.#renewal = undefined));
            await this.#renewal;
        }
        return this.#tokens.access_token;
    }

    /** Makes one call as this user, and once more with a new token when the messenger does not take the one that is held. */
    async call<T>(
        method: string,
        path: string,
        body?: unknown,
        headers: Record<string, string> = {},
    ): Promise<T> {
        const token = await this.token();
        try {
            return await this.messenger.call<T>(method, path, { token, body, headers });
        } catch (error) {
            if (!(error instanceof CallError) || error.status !== 401) throw error;
            // The clock of a machine that sleeps may stand still. Another call may have renewed it meanwhile.
            const renewed = await this.token(this.#tokens.access_token === token);
            return this.messenger.call<T>(method, path, { token: renewed, body, headers });
        }
    }

    /** Creates a chat, or returns the direct chat that is there. */
    createChat(request: CreateChatRequest): Promise<Chat> {
        return this.call("POST", "/api/chats", request);
    }

    /** Returns all chats of the user. */
    async chats(): Promise<Chat[]> {
        const chats: Chat[] = [];
        let cursor: string | null | undefined;
        do {
            const query: string = cursor ? `?cursor=${encodeURIComponent(cursor)}` : "";
            const page: Page_Chat = await this.call("GET", `/api/chats${query}`);
            chats.push(...page.items);
            cursor = page.next_cursor;
        } while (cursor);
        return chats;
    }

    /** Changes how the user has a chat; an empty body removes the draft. Every device receives it as an `own_state` event. */
    updateOwnState(chat: string, request: UpdateOwnChatStateRequest): Promise<OwnChatState> {
        return this.call("PATCH", `/api/chats/${chat}/me`, request);
    }

    /** Schedules a message; the same key is the same message. */
    schedule(chat: string, request: ScheduleRequest): Promise<ScheduledMessage> {
        return this.call("POST", `/api/chats/${chat}/scheduled`, request);
    }

    /** Returns what the user has scheduled in a chat, the next one first. */
    async scheduled(chat: string): Promise<ScheduledMessage[]> {
        const page: Page_ScheduledMessage = await this.call("GET", `/api/chats/${chat}/scheduled`);
        return page.items;
    }

    /** Replaces a scheduled message as a whole. */
    reschedule(chat: string, key: string, request: RescheduleRequest): Promise<ScheduledMessage> {
        return this.call("PUT", `/api/chats/${chat}/scheduled/${key}`, request);
    }

    /** Cancels a scheduled message. */
    async cancelScheduled(chat: string, key: string): Promise<void> {
        await this.call("DELETE", `/api/chats/${chat}/scheduled/${key}`);
    }

    /** Sends a scheduled message at once. */
    async sendScheduled(chat: string, key: string): Promise<void> {
        await this.call("POST", `/api/chats/${chat}/scheduled/${key}/send`);
    }

    /** Returns the id of the user with this name, if there is one. */
    async find(username: string): Promise<string | undefined> {
        const query = `?username=${encodeURIComponent(username)}`;
        const page: Page_UserProfile = await this.call("GET", `/api/users${query}`);
        return page.items[0]?.user_id;
    }

    /**
     * Returns a page of the newest messages with these words, in the user's chats; `has:file` and its like narrow it. `cursor` is the `next_cursor` of
     * the page before. A messenger without the service search refuses it as `not_found`, likewise the next two.
     */
    searchMessages(query: string, cursor?: string): Promise<FoundMessages> {
        const parameters = new URLSearchParams({ q: query });
        if (cursor !== undefined) parameters.set("cursor", cursor);
        return this.call("GET", `/api/search/messages?${parameters}`);
    }

    /** Returns the user's newest chats whose names have words with these beginnings. */
    async findChats(query: string): Promise<FoundChat[]> {
        const parameters = new URLSearchParams({ q: query });
        const found: FoundChats = await this.call("GET", `/api/search/chats?${parameters}`);
        return found.items;
    }

    /** Returns users whose names have words with these beginnings. */
    async findUsers(query: string): Promise<FoundUser[]> {
        const parameters = new URLSearchParams({ q: query });
        const found: FoundUsers = await this.call("GET", `/api/search/users?${parameters}`);
        return found.items;
    }

    /** Ends the session at the realm. */
    async signOut(): Promise<void> {
        await this.#issuer.end(this, this.#tokens.refresh_token);
    }

    async #renew(): Promise<void> {
        for (let attempt = 1; ; attempt += 1) {
            try {
                return this.#keep(await this.#issuer.refresh(this.#tokens.refresh_token, REFRESH_TIMEOUT_MS));
            } catch (error) {
                const hasNoAnswer = error instanceof CallError && error.status === 0;
                if (!hasNoAnswer || attempt === REFRESH_ATTEMPTS) throw error;
            }
        }
    }

    #keep(tokens: Tokens): void {
        this.#tokens = tokens;
        this.#expiresAt = performance.now() + tokens.expires_in_seconds * 1_000;
    }
}

// Derived from docs/api/search.openapi.json by `make generate`.

/** A chat, direct or group. Also the Kafka record key, which keeps one chat on one partition. */
export type ChatId = string;

export type ChatKind = ("direct" | "group" | "channel");

/** Why a request was refused. Stable: a client may branch on it. */
export type ErrorCode = ("malformed" | "invalid_argument" | "unauthenticated" | "token_expired" | "permission_denied" | "not_a_member" | "consent_required" | "not_found" | "no_such_file" | "not_configured" | "method_not_allowed" | "unsupported_media_type" | "conflict" | "cursor_expired" | "limit_reached" | "idempotency_conflict" | "too_large" | "rate_limited" | "slow_mode" | "unavailable" | "internal");

/** A part of an excerpt. */
export type ExcerptPart = {
    /** Whether it is what the search was for. */
    found: boolean;
    text: string;
};

/** A file that a user uploaded. It is one file for as long as it lives: what is in it never changes. */
export type FileId = string;

/** A chat of the caller whose name was found. */
export type FoundChat = {
    chat_id: ChatId;
    kind: ChatKind;
    /** The title; of a direct chat, the display name of the other user. */
    name: string;
    other?: (UserId | null);
};

/** `GET /api/search/chats` */
export type FoundChats = {
    /** The newest first. */
    items: Array<FoundChat>;
};

/** A file of a message that was found. */
export type FoundFile = {
    file: FileId;
    /** The name, in parts as an excerpt is. */
    name: Array<ExcerptPart>;
    /** In bytes. */
    size: number;
    /** The media type. */
    type: string;
};

/** A message that was found. */
export type FoundMessage = {
    chat_id: ChatId;
    /** Whether the text is another one than was sent first. */
    edited: boolean;
    /**
     * A part of the text around what was found, in order. Together the parts are that part, as plain text. It is the beginning of the text when nothing
     * was found there, and empty for a message that has files alone.
     */
    excerpt: Array<ExcerptPart>;
    /** The files of the message. */
    files?: Array<FoundFile>;
    /** The seq of the message that it replies to. */
    reply_to?: (number | null);
    sender: UserId;
    /** Milliseconds since the epoch, by the log's clock. */
    sent_at_ms: number;
    seq: number;
};

/** `GET /api/search/messages`. `next_cursor` is absent on the last page; pass it back as `cursor`. */
export type FoundMessages = {
    /**
     * Whether everything that the caller reads was searched. While the index is built, older messages may be missing; see
     * `GET /api/search/status`.
     */
    complete: boolean;
    /** The newest first. */
    items: Array<FoundMessage>;
    next_cursor?: (string | null);
};

/** A user whose name was found. */
export type FoundUser = {
    display_name: string;
    user_id: UserId;
    username: string;
};

/** `GET /api/search/users` */
export type FoundUsers = {
    /** In the order of their usernames. */
    items: Array<FoundUser>;
};

/** The body of every refusal, `application/problem+json` (RFC 9457). */
export type Problem = {
    code: ErrorCode;
    /** What is wrong with this request. */
    detail?: (string | null);
    status: number;
    /** Human-readable text, the same for every problem of this code. */
    title: string;
    /** `urn:posthouse:error:<code>` */
    type: string;
};

/** `GET /api/search/status` */
export type SearchStatus = {
    /** Whether every message of the tenant can be found, but for those of the last seconds. */
    complete: boolean;
    /** How much of the chats of the tenant is read into the index: 0 to 100. */
    percent: number;
    /**
     * How much of the chats is read into an index that is built to take the place of the one that searches use, which goes on meanwhile: 0 to 100. Absent
     * when none is built.
     */
    rebuild_percent?: (number | null);
};

/** A user: the `sub` claim of the tenant's realm. */
export type UserId = string;

// Derived from docs/api/chat.openapi.json by `make generate`.

/** A user whom the caller blocks. */
export type Block = {
    /** Milliseconds since the epoch. */
    blocked_at_ms: number;
    user_id: UserId;
};

export type Chat = {
    chat_id: ChatId;
    /** Milliseconds since the epoch. */
    created_at_ms: number;
    history?: (HistoryAccess | null);
    kind: ChatKind;
    /** 1 in a direct chat that the other user has left: no message can be sent until it is created again. */
    member_count: number;
    /** How the caller has the chat. */
    own?: OwnChatState;
    /** The caller's role. */
    role: Role;
    title?: (string | null);
    /** What a group is for. */
    topic?: (string | null);
};

/** A chat, direct or group. Also the Kafka record key, which keeps one chat on one partition. */
export type ChatId = string;

export type ChatKind = ("direct" | "group" | "channel");

export type ChatMember = {
    role: Role;
    user_id: UserId;
};

/** A direct chat with one user, or a group or channel with a title */
export type CreateChatRequest = ({
    kind: "direct";
    /** The other user; not the caller */
    members: Array<string>;
} | {
    /** What members who are added later read. When absent, `from_entry` in a group and `all` in a channel */
    history?: ("from_entry" | "all" | null);
    kind: "group";
    /** The others, users of this tenant. The caller is always a member */
    members: Array<string>;
    title: string;
} | {
    /** What members who are added later read. When absent, `from_entry` in a group and `all` in a channel */
    history?: ("from_entry" | "all" | null);
    kind: "channel";
    /** The others, users of this tenant. The caller is always a member */
    members: Array<string>;
    title: string;
});

/** Why a request was refused. Stable: a client may branch on it. */
export type ErrorCode = ("malformed" | "invalid_argument" | "unauthenticated" | "token_expired" | "permission_denied" | "not_a_member" | "consent_required" | "not_found" | "method_not_allowed" | "unsupported_media_type" | "conflict" | "cursor_expired" | "limit_reached" | "idempotency_conflict" | "too_large" | "rate_limited" | "unavailable" | "internal");

/** What members who are added to a group read of its history. Founding members read all of it. */
export type HistoryAccess = ("from_entry" | "all");

/** How a member has a chat: on all their devices, and seen by no one else. */
export type OwnChatState = {
    /** Clients keep the chat out of the list that they show first. */
    archived: boolean;
    /** Clients keep the chat at the top of their list. */
    favourite: boolean;
    /**
     * Milliseconds since the epoch: until then clients do not notify of messages. Absent when the chat was not muted; one that is past
     * mutes nothing any more.
     */
    muted_until_ms?: (number | null);
    /** Counts the changes since the member is in the chat: of two states the one with the greater version is the later one. */
    version: number;
};

/** One page of a list. `next_cursor` is absent on the last page; pass it back as `cursor`. */
export type Page_Block = {
    items: Array<{
        /** Milliseconds since the epoch. */
        blocked_at_ms: number;
        user_id: UserId;
    }>;
    next_cursor?: (string | null);
};

/** One page of a list. `next_cursor` is absent on the last page; pass it back as `cursor`. */
export type Page_Chat = {
    items: Array<{
        chat_id: ChatId;
        /** Milliseconds since the epoch. */
        created_at_ms: number;
        history?: (HistoryAccess | null);
        kind: ChatKind;
        /** 1 in a direct chat that the other user has left: no message can be sent until it is created again. */
        member_count: number;
        /** How the caller has the chat. */
        own?: OwnChatState;
        /** The caller's role. */
        role: Role;
        title?: (string | null);
        /** What a group is for. */
        topic?: (string | null);
    }>;
    next_cursor?: (string | null);
};

/** One page of a list. `next_cursor` is absent on the last page; pass it back as `cursor`. */
export type Page_ChatMember = {
    items: Array<{
        role: Role;
        user_id: UserId;
    }>;
    next_cursor?: (string | null);
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

/** `PUT /api/chats/{chat}/members/{user}`: adds the member or changes the role. */
export type PutMemberRequest = {
    role: Role;
};

/** What a member may do. Later variants may do less. */
export type Role = ("owner" | "admin" | "member");

/** `PATCH /api/chats/{chat}`: absent fields stay. */
export type UpdateChatRequest = {
    history?: (HistoryAccess | null);
    title?: (string | null);
    topic?: (string | null);
};

/** `PATCH /api/chats/{chat}/me`: absent fields stay. */
export type UpdateOwnChatStateRequest = {
    archived?: (boolean | null);
    favourite?: (boolean | null);
    /** Milliseconds since the epoch; 0 ends it. */
    muted_until_ms?: (number | null);
};

/** A user: the `sub` claim of the tenant's realm. */
export type UserId = string;

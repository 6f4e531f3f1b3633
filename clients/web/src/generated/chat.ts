// Derived from docs/api/chat.openapi.json by `make generate`.

/** `POST /api/chats/{chat}/members` */
export type AddMembersRequest = {
    /** Users of this tenant. One who is named twice is added once. */
    user_ids: Array<UserId>;
};

/** Response to `POST /api/chats/{chat}/members`: all others are in the chat. */
export type AddedMembers = {
    refused: Array<RefusedMember>;
};

/** A user whom the caller blocks. */
export type Block = {
    /** Milliseconds since the epoch. */
    blocked_at_ms: number;
    user_id: UserId;
};

export type Chat = {
    /** The id of the picture of a group. */
    avatar?: (string | null);
    chat_id: ChatId;
    /** Milliseconds since the epoch. */
    created_at_ms: number;
    history?: (HistoryAccess | null);
    kind: ChatKind;
    /** 1 in a direct chat that the other user has left: no message can be sent until it is created again. */
    member_count: number;
    /** How long after it was sent a text disappears; 0 for never. */
    message_ttl_seconds?: number;
    /** How the caller has the chat. */
    own?: OwnChatState;
    /** The caller's role. */
    role: Role;
    /** How long a plain member waits after a message before the next one; 0 for not at all. Owners and admins do not wait. */
    slow_mode_seconds?: number;
    title?: (string | null);
    /** What a group is for. */
    topic?: (string | null);
    /** Who finds it and joins it; always `private` of a direct chat. */
    visibility?: Visibility;
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
    /** Who finds it and joins it: those who are added or have an invite link, or every user. `private` when absent */
    visibility?: ("private" | "public" | null);
} | {
    /** What members who are added later read. When absent, `from_entry` in a group and `all` in a channel */
    history?: ("from_entry" | "all" | null);
    kind: "channel";
    /** The others, users of this tenant. The caller is always a member */
    members: Array<string>;
    title: string;
    /** Who finds it and joins it: those who are added or have an invite link, or every user. `private` when absent */
    visibility?: ("private" | "public" | null);
});

/** `POST /api/chats/{chat}/invites` */
export type CreateInviteRequest = {
    /** For how long the link is good, at most a year; until it is revoked when absent. */
    expires_in_seconds?: (number | null);
    /** How many users come by it; as many as the chat has room for when absent. */
    max_uses?: (number | null);
    /** Whether an owner or admin decides on each user who comes by it. `false` when absent. */
    needs_approval?: (boolean | null);
};

/** Response to `POST /api/chats/{chat}/invites` */
export type CreatedInvite = Invite & {
    /** What the link carries, 128 random bits. It is shown here and never again. */
    code: string;
};

/** A message that a member has written and not sent. */
export type Draft = {
    body: string;
    /** The seq of the message that it is to reply to. */
    reply_to?: (number | null);
};

/** Why a request was refused. Stable: a client may branch on it. */
export type ErrorCode = ("malformed" | "invalid_argument" | "unauthenticated" | "token_expired" | "permission_denied" | "not_a_member" | "consent_required" | "not_found" | "no_such_file" | "not_configured" | "method_not_allowed" | "unsupported_media_type" | "conflict" | "cursor_expired" | "limit_reached" | "idempotency_conflict" | "too_large" | "rate_limited" | "slow_mode" | "unavailable" | "internal");

/** What members who are added to a group read of its history. Founding members read all of it. */
export type HistoryAccess = ("from_entry" | "all");

/** An invite link, as the owner and the admins of the chat see it. Its code is not kept. */
export type Invite = {
    /** Milliseconds since the epoch. */
    created_at_ms: number;
    /** Milliseconds since the epoch. Absent when it is good until it is revoked. */
    expires_at_ms?: (number | null);
    invite_id: InviteId;
    /** Who made it. It is good for as long as they are owner or admin. */
    made_by: UserId;
    max_uses?: (number | null);
    needs_approval: boolean;
    /** How many users came by it, or asked to. */
    uses: number;
};

/** An invite link of a chat. It names the link to those who manage it, and lets no one in. */
export type InviteId = string;

/** `GET /api/invites/{code}`: where a link leads. */
export type InvitePreview = {
    chat_id?: (ChatId | null);
    member_count: number;
    /** Whether an owner or admin decides on who comes by it. */
    needs_approval: boolean;
    title: string;
};

/** That a user asks to join a chat. */
export type JoinRequest = {
    chat_id: ChatId;
    /** Milliseconds since the epoch. */
    requested_at_ms: number;
    user_id: UserId;
};

/** The sender's idempotency key of a message. The same (chat, sender, key) is the same message forever. */
export type MessageKey = string;

/** How a member has a chat: on all their devices, and seen by no one else. */
export type OwnChatState = {
    /** Clients keep the chat out of the list that they show first. */
    archived: boolean;
    draft?: (Draft | null);
    /** Clients keep the chat at the top of their list. */
    favourite: boolean;
    /**
     * Milliseconds since the epoch: until then clients do not notify of messages. Absent when the chat was not muted; one that is past
     * mutes nothing any more.
     */
    muted_until_ms?: (number | null);
    /** Messages of the member that wait for their time. */
    scheduled?: number;
    /** Scheduled messages that were refused at their time, and wait for the member to decide. */
    scheduled_refused?: number;
    /** Grows with each change, and when a user comes back to the chat: of two states the one with the greater version is the later one. */
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
        /** The id of the picture of a group. */
        avatar?: (string | null);
        chat_id: ChatId;
        /** Milliseconds since the epoch. */
        created_at_ms: number;
        history?: (HistoryAccess | null);
        kind: ChatKind;
        /** 1 in a direct chat that the other user has left: no message can be sent until it is created again. */
        member_count: number;
        /** How long after it was sent a text disappears; 0 for never. */
        message_ttl_seconds?: number;
        /** How the caller has the chat. */
        own?: OwnChatState;
        /** The caller's role. */
        role: Role;
        /** How long a plain member waits after a message before the next one; 0 for not at all. Owners and admins do not wait. */
        slow_mode_seconds?: number;
        title?: (string | null);
        /** What a group is for. */
        topic?: (string | null);
        /** Who finds it and joins it; always `private` of a direct chat. */
        visibility?: Visibility;
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

/** One page of a list. `next_cursor` is absent on the last page; pass it back as `cursor`. */
export type Page_Invite = {
    items: Array<{
        /** Milliseconds since the epoch. */
        created_at_ms: number;
        /** Milliseconds since the epoch. Absent when it is good until it is revoked. */
        expires_at_ms?: (number | null);
        invite_id: InviteId;
        /** Who made it. It is good for as long as they are owner or admin. */
        made_by: UserId;
        max_uses?: (number | null);
        needs_approval: boolean;
        /** How many users came by it, or asked to. */
        uses: number;
    }>;
    next_cursor?: (string | null);
};

/** One page of a list. `next_cursor` is absent on the last page; pass it back as `cursor`. */
export type Page_JoinRequest = {
    items: Array<{
        chat_id: ChatId;
        /** Milliseconds since the epoch. */
        requested_at_ms: number;
        user_id: UserId;
    }>;
    next_cursor?: (string | null);
};

/** One page of a list. `next_cursor` is absent on the last page; pass it back as `cursor`. */
export type Page_PublicChat = {
    items: Array<{
        chat_id: ChatId;
        /** `group` or `channel`. */
        kind: ChatKind;
        member_count: number;
        title: string;
        topic?: (string | null);
    }>;
    next_cursor?: (string | null);
};

/** One page of a list. `next_cursor` is absent on the last page; pass it back as `cursor`. */
export type Page_ScheduledMessage = {
    items: Array<{
        body: string;
        chat_id: ChatId;
        key: MessageKey;
        mention_all?: boolean;
        mention_here?: boolean;
        mention_roles?: Array<Role>;
        mentions?: Array<UserId>;
        /**
         * When it is tried, if that is later: in slow mode, when more is to be sent at once than there is room for, and after a failure of the
         * server. Milliseconds since the epoch.
         */
        put_off_until_ms?: (number | null);
        refused?: (ErrorCode | null);
        reply_to?: (number | null);
        /** Milliseconds since the epoch: for when it was scheduled. */
        send_at_ms: number;
        silent?: boolean;
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

/** A public group or channel, as users see it who are not in it. */
export type PublicChat = {
    chat_id: ChatId;
    /** `group` or `channel`. */
    kind: ChatKind;
    member_count: number;
    title: string;
    topic?: (string | null);
};

/** `PUT /api/chats/{chat}/members/{user}`: adds the member or changes the role. */
export type PutMemberRequest = {
    role: Role;
};

/** A user who was not added. */
export type RefusedMember = {
    /** `not_found` or `consent_required`. */
    code: ErrorCode;
    user_id: UserId;
};

/** `PUT /api/chats/{chat}/scheduled/{key}`: the message as it is to be sent, as a whole. */
export type RescheduleRequest = {
    body: string;
    /** Whether it calls all members. */
    mention_all?: boolean;
    /** Whether it calls the members who are connected when it is pushed. */
    mention_here?: boolean;
    /** The roles that it calls: those who have them at its time, at most 100 members */
    mention_roles?: Array<("owner" | "admin")>;
    /** Whom it calls by name. */
    mentions?: Array<UserId>;
    /** The seq of the message that it replies to. */
    reply_to?: (number | null);
    /** Milliseconds since the epoch, later than now and at most 366 days ahead. */
    send_at_ms: number;
    /** Whether it disturbs no user. */
    silent?: boolean;
};

/** What a member may do. Later variants may do less. */
export type Role = ("owner" | "admin" | "member");

/** `POST /api/chats/{chat}/scheduled` */
export type ScheduleRequest = {
    body: string;
    /**
     * The idempotency key of the message, as that of `send`: a request that is repeated with it schedules once, and what is sent in
     * the end is one message.
     */
    key: MessageKey;
    /** Whether it calls all members. */
    mention_all?: boolean;
    /** Whether it calls the members who are connected when it is pushed. */
    mention_here?: boolean;
    /** The roles that it calls: those who have them at its time, at most 100 members */
    mention_roles?: Array<("owner" | "admin")>;
    /** Whom it calls by name. */
    mentions?: Array<UserId>;
    /** The seq of the message that it replies to. */
    reply_to?: (number | null);
    /** Milliseconds since the epoch, later than now and at most 366 days ahead. */
    send_at_ms: number;
    /** Whether it disturbs no user. */
    silent?: boolean;
};

/** A message that waits for its time, or was refused then. */
export type ScheduledMessage = {
    body: string;
    chat_id: ChatId;
    key: MessageKey;
    mention_all?: boolean;
    mention_here?: boolean;
    mention_roles?: Array<Role>;
    mentions?: Array<UserId>;
    /**
     * When it is tried, if that is later: in slow mode, when more is to be sent at once than there is room for, and after a failure of the
     * server. Milliseconds since the epoch.
     */
    put_off_until_ms?: (number | null);
    refused?: (ErrorCode | null);
    reply_to?: (number | null);
    /** Milliseconds since the epoch: for when it was scheduled. */
    send_at_ms: number;
    silent?: boolean;
};

/** A draft as it is set. */
export type SetDraft = {
    body: string;
    /** The seq of the message that it is to reply to. */
    reply_to?: (number | null);
};

/** `PATCH /api/chats/{chat}`: absent fields stay. */
export type UpdateChatRequest = {
    /** The id of a picture, 1 to 128 of `A-Z a-z 0-9 _ -`, which the messenger does not read. An empty one removes it. */
    avatar?: (string | null);
    history?: (HistoryAccess | null);
    /**
     * How long after it was sent a text disappears, from now on: 60 seconds to a year, or 0 for never. In a direct chat either of the two
     * changes it.
     */
    message_ttl_seconds?: (number | null);
    /** How long a plain member waits after a message before the next one; 0 ends it. */
    slow_mode_seconds?: (number | null);
    title?: (string | null);
    topic?: (string | null);
    visibility?: (Visibility | null);
};

/** `PATCH /api/chats/{chat}/me`: absent fields stay. */
export type UpdateOwnChatStateRequest = {
    archived?: (boolean | null);
    draft?: (SetDraft | null);
    favourite?: (boolean | null);
    /** Milliseconds since the epoch; 0 ends it. */
    muted_until_ms?: (number | null);
};

/** A user: the `sub` claim of the tenant's realm. */
export type UserId = string;

/** Who finds a group or channel and joins it. */
export type Visibility = ("private" | "public");

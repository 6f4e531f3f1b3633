// Derived from docs/api/message.openapi.json by `make generate`.

/** A file as a message carries it. What is known of it was found out before it was sent, and stays as it was then. */
export type Attachment = {
    /** A few bytes that stand for a picture until it is there: a thumbhash in base64. */
    blur?: (string | null);
    /** Of a film or a sound, in milliseconds. */
    duration_ms?: (number | null);
    file: FileId;
    /** Whether there is a small picture of it to fetch. */
    has_thumbnail?: boolean;
    /** Likewise. */
    height?: (number | null);
    /** As the sender's device has it, without a path: at most [`MAX_FILE_NAME_BYTES`]. */
    name: string;
    /** In bytes. */
    size: number;
    /** The media type, by what the file has in it and not by its name. */
    type: string;
    /** Of a picture or a film, in pixels. */
    width?: (number | null);
};

/**
 * What later entries changed of a message, as of one moment. Each of them is an entry of its own, and comes to a client that has the
 * message already.
 */
export type Changes = {
    /** The seq of the deletion. */
    deleted_seq?: (number | null);
    /** The seq of the last edit. */
    edited_seq?: (number | null);
    /** The number of edits. */
    edits?: number;
    /** The seq of the last reply, deleted or not. */
    last_reply_seq?: (number | null);
    /** The seq of the entry that pinned it. */
    pinned_seq?: (number | null);
    /** In the order in which they were first made. */
    reactions?: Array<Reactions>;
    /** The number of replies that are not deleted. */
    replies?: number;
    /** The seq of the last entry that is included. Those with a greater one are still to be added. */
    seq: number;
};

/** A chat, direct or group. Also the Kafka record key, which keeps one chat on one partition. */
export type ChatId = string;

/** What an entry of a chat's log is. */
export type EntryKind = ("text" | "edit" | "delete" | "delete_range" | "reaction" | "reaction_removed" | "pin" | "unpin" | "member_added" | "member_removed" | "role_changed" | "title_changed" | "topic_changed" | "avatar_changed" | "slow_mode_changed" | "ttl_changed");

/** Why a request was refused. Stable: a client may branch on it. */
export type ErrorCode = ("malformed" | "invalid_argument" | "unauthenticated" | "token_expired" | "permission_denied" | "not_a_member" | "consent_required" | "not_found" | "no_such_file" | "not_configured" | "method_not_allowed" | "unsupported_media_type" | "conflict" | "cursor_expired" | "limit_reached" | "idempotency_conflict" | "too_large" | "rate_limited" | "slow_mode" | "unavailable" | "internal");

/** A file that a user uploaded. It is one file for as long as it lives: what is in it never changes. */
export type FileId = string;

/** Who wrote a text that is forwarded, and when. Not where: who receives it may not be in that chat. */
export type Forwarded = {
    sender: UserId;
    /** Milliseconds since the epoch, by the log's clock. */
    sent_at_ms: number;
};

/** One entry of a chat. (chat, seq) is its identity; seq is 1, 2, 3, ..., gapless. */
export type Message = {
    /** The files that a text carries, as they were when it was sent. Gone with the text, and kept by an edit. */
    attachments?: Array<Attachment>;
    body: string;
    /** What later entries changed of a text. `body` is as they left it: the text of the last edit, and empty once it is deleted. */
    changes?: Changes;
    chat: ChatId;
    /** The text has disappeared: `body` is empty, and nothing that it carried or that was changed of it is left. */
    expired?: boolean;
    /**
     * When the text disappears, in milliseconds since the epoch: clients forget it then by themselves. Of a text of a chat with
     * `message_ttl_seconds`, and of an edit of one.
     */
    expires_at_ms?: (number | null);
    forwarded?: (Forwarded | null);
    key: MessageKey;
    kind: EntryKind;
    /** The roles that a text calls, as it was said. Who had them then is in `mentions`. */
    mention_roles?: Array<Role>;
    /** Whom a text calls, by name or by their role. Users who were no members are not among them. */
    mentions?: Array<UserId>;
    /** Whether a text calls all members. */
    mentions_all?: boolean;
    /** Whether a text calls the members who are connected when it is pushed. */
    mentions_here?: boolean;
    range?: (SeqRange | null);
    sender: UserId;
    /** Milliseconds since the epoch, by the log's clock. */
    sent_at_ms: number;
    seq: number;
    /** Whether a text disturbs no user. */
    silent?: boolean;
    subject?: (UserId | null);
    /** The seq of the message that this entry speaks of: what a reply replies to, what an edit changes. */
    target_seq?: (number | null);
};

/** The sender's idempotency key of a message. The same (chat, sender, key) is the same message forever. */
export type MessageKey = string;

/** `GET /api/messages/{chat}` */
export type MessagePage = {
    /** The first seq that the caller reads: 1, or the one of the entry that added them. Nothing before it is a gap. */
    from_seq: number;
    /** The newest seq of the chat. */
    head_seq: number;
    messages: Array<Message>;
};

/** One page of a list. `next_cursor` is absent on the last page; pass it back as `cursor`. */
export type Page_Message = {
    items: Array<{
        /** The files that a text carries, as they were when it was sent. Gone with the text, and kept by an edit. */
        attachments?: Array<Attachment>;
        body: string;
        /** What later entries changed of a text. `body` is as they left it: the text of the last edit, and empty once it is deleted. */
        changes?: Changes;
        chat: ChatId;
        /** The text has disappeared: `body` is empty, and nothing that it carried or that was changed of it is left. */
        expired?: boolean;
        /**
         * When the text disappears, in milliseconds since the epoch: clients forget it then by themselves. Of a text of a chat with
         * `message_ttl_seconds`, and of an edit of one.
         */
        expires_at_ms?: (number | null);
        forwarded?: (Forwarded | null);
        key: MessageKey;
        kind: EntryKind;
        /** The roles that a text calls, as it was said. Who had them then is in `mentions`. */
        mention_roles?: Array<Role>;
        /** Whom a text calls, by name or by their role. Users who were no members are not among them. */
        mentions?: Array<UserId>;
        /** Whether a text calls all members. */
        mentions_all?: boolean;
        /** Whether a text calls the members who are connected when it is pushed. */
        mentions_here?: boolean;
        range?: (SeqRange | null);
        sender: UserId;
        /** Milliseconds since the epoch, by the log's clock. */
        sent_at_ms: number;
        seq: number;
        /** Whether a text disturbs no user. */
        silent?: boolean;
        subject?: (UserId | null);
        /** The seq of the message that this entry speaks of: what a reply replies to, what an edit changes. */
        target_seq?: (number | null);
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

/** The reactions to a message with one emoji. */
export type Reactions = {
    count: number;
    emoji: string;
    /** Whether the reader is among them. */
    own?: boolean;
    /** Some of them: the first, as long as they react so. */
    users?: Array<UserId>;
};

/** What a member may do. Later variants may do less. */
export type Role = ("owner" | "admin" | "member");

/** Entries of a chat from one to another, both included. */
export type SeqRange = {
    from_seq: number;
    to_seq: number;
};

/** A user: the `sub` claim of the tenant's realm. */
export type UserId = string;

// Derived from services/gateway/src/api/asyncapi.json by `make generate`.

export type Activity = {
    state: ("online" | "away");
};

/** A file that a message carries. Its bytes are fetched by a link of the media service (/docs/media), which asks each time whether the reader is in a chat that has it. */
export type Attachment = {
    file: Id;
    /** As the sender's device has it, without a path: at most 255 bytes of UTF-8. Show it as a text, and let the user choose where it is saved. */
    name: string;
    /** The media type, by what the file has in it and not by its name. */
    type: string;
    /** In bytes. */
    size: number;
    /** Of a picture or a film, in pixels. */
    width?: number;
    /** Likewise. */
    height?: number;
    /** Of a film or a sound, in milliseconds. */
    duration_ms?: number;
    /** A few bytes that stand for a picture until it is there: a thumbhash in base64. */
    blur?: string;
    /** Whether there is a small picture of it to fetch. */
    has_thumbnail?: boolean;
};

/** What later entries changed of a message, as of the moment of the page. Each of them is an entry of its own as well, and comes as a push. */
export type Changes = {
    /** The seq of the last entry that is included. Add those with a greater one, and no other. */
    seq: number;
    /** The seq of the last edit. */
    edited_seq?: number;
    /** The number of edits. */
    edits?: number;
    /** The seq of the deletion. */
    deleted_seq?: number;
    /** The seq of the entry that pinned it. */
    pinned_seq?: number;
    /** The number of replies that are not deleted. */
    replies?: number;
    /** The seq of the last reply, deleted or not. */
    last_reply_seq?: number;
    /** In the order in which they were first made. */
    reactions?: Array<Reactions>;
};

export type ChatState = {
    chat: Id;
    kind: ("direct" | "group" | "channel");
    /** Groups only. */
    title?: string;
    /** What a group is for. */
    topic?: string;
    /** The id of the picture of a group. */
    avatar?: string;
    /** How long a plain member waits after a message before the next one. */
    slow_mode_seconds?: number;
    /** How long after it was sent a text disappears; 0 for never. */
    message_ttl_seconds?: number;
    /** The other user of a direct chat. */
    other?: Id;
    role: ("owner" | "admin" | "member");
    /** How the caller has the chat. */
    own: OwnChatState;
    member_count: number;
    /** The newest seq; 0 for a chat without entries. */
    head_seq: number;
    /** The first seq that the caller reads. */
    from_seq: number;
    watermarks: Watermarks;
    /** How far the other user of a direct chat has read it. Absent when they do not show it. */
    other_read_seq?: number;
    /** How far the other user of a direct chat has received it. */
    other_delivered_seq?: number;
    /** The last entries, in the order of their seq. */
    entries: Array<Message>;
    /** The caller reads entries before these. */
    limited: boolean;
};

/** The first frame, within five seconds of the upgrade. */
export type Connect = {
    /** An access token of this tenant's realm. Never in the URL. */
    token: string;
    /** One installation of a client; kept for as long as it is installed. Not the nil UUID. */
    device: string;
};

export type Connected = {
    /** Names this connection in logs. */
    session: string;
    user: Id;
    ping_seconds: number;
    pong_seconds: number;
    max_inflight: number;
    max_frame_bytes: number;
    max_body_bytes: number;
    token_expires_in_seconds: number;
};

/** Removes the text of a message for everyone, that of its edits, and its attachments. */
export type Delete = {
    chat: Id;
    /** An idempotency key of its own, unique for this sender in this chat. */
    key: string;
    /** The message. */
    seq: number;
};

/** Removes the texts of a range of entries for everyone, as delete does of each. Entries that are no text, deleted already or of another user than is meant stay as they are, and so do those behind this one. */
export type DeleteRange = {
    chat: Id;
    /** An idempotency key of its own, unique for this sender in this chat. */
    key: string;
    /** An entry that the caller reads. */
    from_seq: number;
    /** At most 100 entries from from_seq on, both included. */
    to_seq: number;
    /** Whose messages. Without it, everyone's for the owner and admins of a group, and one's own for everyone else. */
    sender?: (string | null);
};

export type Draft = {
    /** At most 4096 bytes of UTF-8. */
    body: string;
    /** The seq of the message that it is to reply to. */
    reply_to?: number;
};

/** Replaces the text of a message of one's own, and keeps its attachments. A message has at most 100 edits. */
export type Edit = {
    chat: Id;
    /** An idempotency key of its own, unique for this sender in this chat. */
    key: string;
    /** The message. */
    seq: number;
    /** At most 16 KiB of UTF-8, so fewer characters than that outside ASCII. */
    body: string;
};

export type Empty = Record<string, never>;

export type Error = {
    code: ErrorCode;
    /** For the reader of a log; never branch on it. */
    detail: string;
    /** Whether the same command may succeed later. */
    temporary: boolean;
    /** Present when the refusal is temporary: wait this long before you repeat the command. After rate_limited, wait this long before any further send. With slow_mode it is how long the user waits for their next message in this chat. */
    retry_after_ms?: number;
};

/** Stable: a client may branch on it. Shared with the REST problem bodies. */
export type ErrorCode = ("malformed" | "invalid_argument" | "unauthenticated" | "token_expired" | "permission_denied" | "not_a_member" | "consent_required" | "not_found" | "no_such_file" | "not_configured" | "method_not_allowed" | "unsupported_media_type" | "conflict" | "cursor_expired" | "limit_reached" | "idempotency_conflict" | "too_large" | "rate_limited" | "slow_mode" | "unavailable" | "internal");

/** Sends the text and the attachments of a message that the caller reads, with who wrote it first and when, and not where. chat is where it goes, from_chat where it is now; they may be the same. */
export type Forward = {
    chat: Id;
    /** An idempotency key of its own, unique for this sender in this chat. */
    key: string;
    from_chat: Id;
    /** The message. */
    from_seq: number;
};

/** Who wrote a text that is forwarded, and when. Not where: who reads it may not be in that chat. */
export type Forwarded = {
    sender: Id;
    /** Milliseconds since the epoch, by the log's clock. */
    sent_at_ms: number;
};

/** Stored entries in the order of their seq. */
export type History = {
    chat: Id;
    /** Entries with a greater seq. The first of around, before and after that is there decides; without any, the page begins at the first entry that the caller reads. */
    after?: (number | null);
    /** The last entries with a smaller seq. The page begins the history when its first seq is from_seq. */
    before?: (number | null);
    /** Entries before this seq and from it on, half of a page each. */
    around?: (number | null);
    /** Entries from the first one on that was sent at or after this time, in milliseconds since the epoch by the log's clock. When that clock went back, an entry counts as sent with the latest one before it. The first of around, before, from_ms and after that is there decides. */
    from_ms?: (number | null);
    limit?: (number | null);
};

/** Of what comes after a seq, the page is the last one when its last seq equals `head_seq`. A page ends at `limit` entries or at 128 KiB as JSON, whichever comes first. */
export type HistoryPage = {
    chat: Id;
    messages: Array<Message>;
    head_seq: number;
    /** The first seq that the caller reads: 1, or the one of the entry that added them. Nothing before it is a gap. */
    from_seq: number;
};

export type Id = string;

export type Lagged = {
    chat: Id;
    head_seq: number;
};

/** Messages as later entries left them. A page ends at `limit` messages or at 128 KiB as JSON, whichever comes first. What is stored in this moment may be missing: it is pushed. */
export type ListPage = {
    chat: Id;
    messages: Array<Message>;
    /** Whether there are more of them. */
    more: boolean;
};

export type Mark = {
    chat: Id;
    /** An entry that the caller reads. */
    seq: number;
};

/** One entry of a chat. (chat, seq) is its identity; seq is 1, 2, 3, ..., gapless. */
export type Message = {
    chat: Id;
    seq: number;
    sender: Id;
    key: Id;
    /** What the entry is. edit, delete, reaction, reaction_removed, pin and unpin speak of message target_seq: edit gives it the text in body, which is empty for a member who was added after that message, delete takes its text, that of its edits and its attachments, delete_range does so with each text in range that comes before it and is not deleted, those of subject or without one of everyone, reaction and reaction_removed have the emoji in body. member_added, member_removed and role_changed speak of the user in subject, and role_changed has the new role in body: owner, admin or member. title_changed, topic_changed and avatar_changed have the new title, topic and picture of the group in body, an empty body for none. ttl_changed has the new message_ttl_seconds in body, 0 for texts that stay. slow_mode_changed has in body how many seconds a plain member waits between two messages from here on, 0 for none. member_added and member_removed have in body how many members the chat has from here on; it is empty in entries of before that was kept. When a group is deleted, each member receives their own removal, and the entries before it are no gap: there is nothing more to fetch. A client that does not know a kind skips the entry. */
    kind: ("text" | "edit" | "delete" | "delete_range" | "reaction" | "reaction_removed" | "pin" | "unpin" | "member_added" | "member_removed" | "role_changed" | "title_changed" | "topic_changed" | "avatar_changed" | "slow_mode_changed" | "ttl_changed");
    body: string;
    /** The user whom a change of members or of a role is about, or whose texts a delete_range takes. */
    subject?: string;
    /** The seq of the message that this entry speaks of: what a reply replies to, what an edit changes. */
    target_seq?: number;
    /** Whom a text calls, by name or by their role. */
    mentions?: Array<Id>;
    /** The roles that a text calls, as it was said. Who had them then is in mentions. */
    mention_roles?: Array<("owner" | "admin")>;
    /** Whether a text calls all members. */
    mentions_all?: boolean;
    /** Whether a text calls the members who are connected when it is pushed. */
    mentions_here?: boolean;
    /** Whether a text disturbs no user: show no notification. */
    silent?: boolean;
    /** The files that a text carries, as they were when it was sent. Absent for none, and once the text is deleted or has disappeared. */
    attachments?: Array<Attachment>;
    /** Whose words a text repeats. */
    forwarded?: Forwarded;
    /** The entries that a delete_range is about. */
    range?: SeqRange;
    /** Milliseconds since the epoch, by the log's clock. */
    sent_at_ms: number;
    /** When the text disappears, in milliseconds since the epoch: of a text of a chat with message_ttl_seconds, and of an edit of one. */
    expires_at_ms?: number;
    /** The text has disappeared: body is empty, and mentions, attachments and changes are absent. */
    expired?: boolean;
    /** In a history: what later entries changed of a text. body is as they left it: the text of the last edit, and empty once it is deleted. */
    changes?: Changes;
};

/** How the user has a chat. PATCH /api/chats/{chat}/me changes it. */
export type OwnChatState = {
    /** Counts the changes since the user is in the chat: of two states the one with the greater version is the later one. */
    version: number;
    /** Milliseconds since the epoch: until then clients do not notify of messages. One that is past mutes nothing any more. */
    muted_until_ms?: number;
    archived: boolean;
    favourite: boolean;
    /** What the user has written and not sent. */
    draft?: Draft;
    /** Messages of the user that wait for their time. GET /api/chats/{chat}/scheduled lists them. */
    scheduled?: number;
    /** Scheduled messages that were refused at their time, and wait for the user to decide. */
    scheduled_refused?: number;
};

export type OwnState = {
    chat: Id;
    own: OwnChatState;
};

/** Pins a message in its chat, or unpins it. */
export type Pin = {
    chat: Id;
    /** An idempotency key of its own, unique for this sender in this chat. */
    key: string;
    /** The message. */
    seq: number;
    /** Unpins the message. */
    remove?: boolean;
};

/** The pinned messages of a chat, the one that was pinned last first. */
export type Pins = {
    chat: Id;
    /** Those that were pinned before: changes.pinned_seq of the last message of the page before. */
    before?: (number | null);
    limit?: (number | null);
};

export type Presence = {
    users: Array<UserPresence>;
};

/** Reacts to a message, or takes a reaction back. A message has at most 20 different reactions. */
export type React = {
    chat: Id;
    /** An idempotency key of its own, unique for this sender in this chat. */
    key: string;
    /** The message. */
    seq: number;
    /** One emoji (UTS #51), at most 64 bytes of UTF-8. A variation selector that is missing or too much is set right: reactions are the same when their fully-qualified forms are, and entries have those. */
    emoji: string;
    /** Takes the reaction back. */
    remove?: boolean;
};

/** The reactions to a message with one emoji. */
export type Reactions = {
    emoji: string;
    count: number;
    /** Whether the reader is among them. */
    own?: boolean;
    /** Some of them, at most 8. */
    users?: Array<Id>;
};

export type Receipt = {
    chat: Id;
    user: Id;
    /** Absent for one who does not show it. */
    read_seq?: number;
    delivered_seq?: number;
    /** For the user's own devices: what is unread now. */
    unread?: number;
    /** Likewise: how much of it calls the user. */
    mentions?: number;
    /** Likewise: the last entry that is counted. */
    counted_seq?: number;
};

/** A new token of the same user, before the old one expires. */
export type Refresh = {
    token: string;
};

export type Refreshed = {
    token_expires_in_seconds: number;
};

export type Rejected = {
    chat: Id;
    key: Id;
    code: ErrorCode;
};

/** The replies to a message in the order of their seq, also those that are deleted. */
export type Replies = {
    chat: Id;
    /** The message. */
    seq: number;
    /** Replies with a greater seq: that of the last message of the page before. */
    after?: (number | null);
    limit?: (number | null);
};

/** Chosen by the client per connection and repeated in the answer as it came. It is not the idempotency key. */
export type RequestId = (number | string);

/** Idempotent: a repetition with the same key is the same message, and stored names the original seq. */
export type Send = {
    chat: Id;
    /** The idempotency key of this message, unique for this sender in this chat. */
    key: string;
    /** At most 16 KiB of UTF-8, so fewer characters than that outside ASCII. It may be empty where there are attachments. */
    body: string;
    /** The seq of the message that this one replies to. It must be one that the sender reads, and not deleted. */
    reply_to?: (number | null);
    /** Whom the message calls by name. Users who are not in the chat are called by nothing, and the stored message does not name them. */
    mentions?: Array<Id>;
    /** Whether the message calls all members. */
    mention_all?: boolean;
    /** The roles that the message calls. Those who have them when it is sent, at most 100, are in mentions of the stored message; with more it is limit_reached. */
    mention_roles?: Array<("owner" | "admin")>;
    /** Whether the message calls the members who are connected when it is pushed. It counts in no count of mentions. */
    mention_here?: boolean;
    /** Whether the message disturbs no user: it is pushed and counts as unread like any other, and says so for notifications. */
    silent?: boolean;
    /** The ids of files that the sender has uploaded for this chat (REST, /docs/media) and that are ready. no_such_file for any other; not_configured where the messenger takes no files. */
    attachments?: Array<Id>;
    /** What answers a send that is taken. accepted: the answer accepted, and stored or rejected behind it. stored: stored or rejected alone, without an answer with the id of the frame. A refusal is answered either way. With stored, repeat a send whose stored does not come, as one that was not answered; POST /commands answers it with 204. */
    ack?: ("accepted" | "stored");
};

/** Entries of a chat from one to another, both included. */
export type SeqRange = {
    from_seq: number;
    to_seq: number;
};

export type Stored = {
    chat: Id;
    key: Id;
    seq: number;
    /** Absent for a resend: query `history` when it matters. */
    sent_at_ms?: number;
    /** When the text disappears, as in message. */
    expires_at_ms?: number;
};

/** What changed in the caller's chats since a cursor. */
export type Sync = {
    /** The cursor of the page before; opaque. Without one, all chats are returned, page by page. */
    cursor?: (string | null);
    /** Chats of the page. */
    limit?: (number | null);
    /** Last entries of each chat. All of a page have at most 128 KiB as JSON: chats at its end may come with fewer. */
    entries?: (number | null);
};

/** The chats that changed, the most recently active first. */
export type SyncPage = {
    chats: Array<ChatState>;
    /** Where the next sync goes on: with the next page, and after the last one with what changes from now on. It counts for 30 days, on every server. */
    cursor: string;
    /** There are more pages. */
    more: boolean;
    /** All chats of the caller. Present when they are not those of the cursor: whatever else a client has, the user has left. */
    all_chats?: Array<Id>;
    /** Texts that the user has not read, in all chats. */
    unread: number;
    /** How many of them call the user. */
    mentions: number;
};

export type Typing = {
    chat: Id;
};

export type TypingUser = {
    chat: Id;
    user: Id;
};

export type UserPresence = {
    user: Id;
    /** unknown: the messenger does not know at present, show nothing. */
    state: ("unknown" | "offline" | "away" | "online");
    /** Of a user who is offline: when they were connected last, in milliseconds since the epoch. Absent when that is not known. */
    last_seen_ms?: number;
};

export type Watch = {
    /** How these users are. */
    users?: Array<Id>;
    /** Who is typing in these chats. Those without the user are ignored. */
    chats?: Array<Id>;
};

export type Watermarks = {
    /** Up to where the user has read; 0 for nothing. */
    read_seq: number;
    /** Up to where a device of the user has received the chat. */
    delivered_seq: number;
    /** Texts behind read_seq, up to counted_seq. */
    unread: number;
    /** How many of them call the user, by name or with all. */
    mentions: number;
    /** The last entry that is counted. A client adds the texts that it receives behind it. */
    counted_seq: number;
};

/** The subprotocols by the encoding of their frames. */
export const SUBPROTOCOLS = {
    json: "posthouse.v1.json",
    cbor: "posthouse.v1.cbor",
} as const;

/** The names of fields that have numbers in CBOR, by their numbers. */
export const NAMES: readonly string[] = [
    "id",
    "result",
    "error",
    "message",
    "stored",
    "receipt",
    "typing",
    "ping",
    "pong",
    "send",
    "read",
    "delivered",
    "accepted",
    "marked",
    "chat",
    "seq",
    "sender",
    "key",
    "kind",
    "body",
    "sent_at_ms",
    "user",
    "target_seq",
    "changes",
    "activity",
    "after",
    "all_chats",
    "archived",
    "around",
    "avatar",
    "before",
    "chats",
    "code",
    "connect",
    "connected",
    "count",
    "counted_seq",
    "cursor",
    "delete",
    "delete_range",
    "deleted_seq",
    "delivered_seq",
    "detail",
    "device",
    "draft",
    "edit",
    "edited_seq",
    "edits",
    "emoji",
    "entries",
    "expired",
    "expires_at_ms",
    "favourite",
    "forward",
    "forwarded",
    "from_chat",
    "from_ms",
    "from_seq",
    "head_seq",
    "history",
    "lagged",
    "last_reply_seq",
    "last_seen_ms",
    "limit",
    "limited",
    "listed",
    "max_body_bytes",
    "max_frame_bytes",
    "max_inflight",
    "member_count",
    "mention_all",
    "mention_here",
    "mention_roles",
    "mentions",
    "mentions_all",
    "mentions_here",
    "message_ttl_seconds",
    "messages",
    "more",
    "muted_until_ms",
    "other",
    "other_delivered_seq",
    "other_read_seq",
    "own",
    "own_state",
    "pin",
    "ping_seconds",
    "pinned_seq",
    "pins",
    "pong_seconds",
    "presence",
    "range",
    "react",
    "reactions",
    "read_seq",
    "refresh",
    "refreshed",
    "rejected",
    "remove",
    "replies",
    "reply_to",
    "retry_after_ms",
    "role",
    "scheduled",
    "scheduled_refused",
    "session",
    "silent",
    "slow_mode_seconds",
    "state",
    "subject",
    "sync",
    "synced",
    "temporary",
    "title",
    "to_seq",
    "token",
    "token_expires_in_seconds",
    "topic",
    "unread",
    "users",
    "version",
    "watch",
    "watching",
    "watermarks",
    "attachments",
    "blur",
    "duration_ms",
    "file",
    "has_thumbnail",
    "height",
    "name",
    "size",
    "type",
    "width",
    "ack",
];

/** The names of the fields that are ids, or lists of them. */
export const ID_FIELDS: readonly string[] = [
    "all_chats",
    "attachments",
    "chat",
    "chats",
    "device",
    "file",
    "from_chat",
    "key",
    "mentions",
    "other",
    "sender",
    "subject",
    "user",
    "users",
];

/** The commands of a client with their arguments. A frame has exactly one of them. */
export type Commands = {
    connect: Connect;
    send: Send;
    edit: Edit;
    delete: Delete;
    delete_range: DeleteRange;
    forward: Forward;
    react: React;
    pin: Pin;
    history: History;
    pins: Pins;
    replies: Replies;
    refresh: Refresh;
    pong: Empty;
    watch: Watch;
    activity: Activity;
    typing: Typing;
    sync: Sync;
    read: Mark;
    delivered: Mark;
};

/** The results of commands. An answer has exactly one of them. */
export type Outcome = {
    connected?: Connected;
    accepted?: Empty;
    history?: HistoryPage;
    listed?: ListPage;
    refreshed?: Refreshed;
    watching?: Presence;
    synced?: SyncPage;
    marked?: Watermarks;
};

/** A frame of the server: an answer (`id` with `result` or `error`) or a push. */
export type ServerFrame = {
    id?: RequestId;
    result?: Outcome;
    error?: Error;
    message?: Message;
    stored?: Stored;
    rejected?: Rejected;
    lagged?: Lagged;
    ping?: Empty;
    presence?: Presence;
    typing?: TypingUser;
    receipt?: Receipt;
    own_state?: OwnState;
};

/** The close codes of the server and their reasons. */
export const CLOSE_CODES = {
    3000: "drain",
    3005: "token expired",
    3008: "slow",
    3012: "no pong",
    3500: "invalid token",
    3501: "malformed frame",
    3502: "stale",
    3503: "frame too large",
    3504: "too many connections",
    3505: "session ended",
} as const;

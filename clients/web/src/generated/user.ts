// Derived from docs/api/user.openapi.json by `make generate`.

/** A user in the caller's contacts. */
export type Contact = {
    /** Milliseconds since the epoch. */
    added_at_ms: number;
    /** The caller's own name for the user. */
    name?: (string | null);
    /** The profile at present, that of a deleted account too. */
    profile: UserProfile;
};

/** Who may add a user to a group, or open a direct chat with them. */
export type ContactableBy = ("everyone" | "shared_chats" | "nobody");

/**
 * What is erased: the `profile` with settings and contacts, of which the username stays, so that it is not given out again; the
 * `account` with password, e-mail address and links to identity providers; its `sessions`; its places in `chats`, and requests to join;
 * `blocks` by and of the user; when it was `last_seen`; and `messages`, which stay with those whom they were written to.
 */
export type ErasedPart = ("profile" | "account" | "sessions" | "chats" | "blocks" | "last_seen" | "messages");

/** One part of what a messenger keeps about a user. */
export type ErasurePart = {
    /** When it was erased, or when it expires. */
    at_ms?: (number | null);
    /** How many chats or blocks there were. */
    count?: (number | null);
    part: ErasedPart;
    state: ErasureState;
};

/** What of a deleted account is erased. It names no user. */
export type ErasureReceipt = {
    /** Milliseconds since the epoch, like all times here. */
    began_at_ms: number;
    /** Absent while a part is pending. */
    finished_at_ms?: (number | null);
    parts: Array<ErasurePart>;
    /** Until then the receipt is shown. */
    shown_until_ms: number;
};

/** How far a part has come: `erased`, `pending` (it is done by itself), `expires` (by itself, shown to no user), or `kept`. */
export type ErasureState = ("erased" | "pending" | "expires" | "kept");

/** Why a request was refused. Stable: a client may branch on it. */
export type ErrorCode = ("malformed" | "invalid_argument" | "unauthenticated" | "token_expired" | "permission_denied" | "not_a_member" | "consent_required" | "not_found" | "no_such_file" | "not_configured" | "method_not_allowed" | "unsupported_media_type" | "conflict" | "cursor_expired" | "limit_reached" | "idempotency_conflict" | "too_large" | "rate_limited" | "slow_mode" | "unavailable" | "internal");

/** A user as they see themselves. */
export type OwnProfile = UserProfile & {
    /** Who may add this user to a group, or open a direct chat with them. Others do not see it. */
    contactable_by: ContactableBy;
    /** Who sees when this user is online. Others do not see it. */
    presence_visible_to?: PresenceVisibleTo;
    /** Whether others learn what this user has read. Others do not see the setting. */
    read_receipts?: boolean;
};

/** One page of a list. `next_cursor` is absent on the last page; pass it back as `cursor`. */
export type Page_Contact = {
    items: Array<{
        /** Milliseconds since the epoch. */
        added_at_ms: number;
        /** The caller's own name for the user. */
        name?: (string | null);
        /** The profile at present, that of a deleted account too. */
        profile: UserProfile;
    }>;
    next_cursor?: (string | null);
};

/** One page of a list. `next_cursor` is absent on the last page; pass it back as `cursor`. */
export type Page_UserProfile = {
    items: Array<{
        /** Free text, at most 500 characters. */
        about: string;
        /** The account is deleted. The username stays, and is not given out again; nothing else is left of the profile. */
        deleted?: boolean;
        display_name: string;
        status?: (UserStatus | null);
        user_id: UserId;
        username: string;
    }>;
    next_cursor?: (string | null);
};

/** Who sees when a user is online. */
export type PresenceVisibleTo = ("everyone" | "shared_chats" | "contacts" | "nobody");

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

/** `PUT /api/users/me/contacts/{user}` */
export type PutContactRequest = {
    name?: (string | null);
};

/** A status as it is set. */
export type SetStatus = {
    emoji?: (string | null);
    /** For how long it is shown, at most a year; until it is changed when absent. */
    expires_in_seconds?: (number | null);
    text?: (string | null);
};

/** What clients of one user share between their devices, and the messenger does not read. */
export type Settings = {
    /**
     * A JSON object of at most 64 KiB, at most 100 deep, without U+0000. Numbers are those of I-JSON (RFC 7493), and the order of the
     * fields is not kept.
     */
    settings: SettingsObject;
    /** Counts the changes; 0 before the first one. A change names the version that it was made from. */
    version: number;
};

/** The refusal of settings that were made from another version. */
export type SettingsConflict = Problem & {
    /** What is stored, to merge with. */
    current: Settings;
};

export type SettingsObject = {
    [name: string]: SettingsValue;
};

export type SettingsValue = (string | number | boolean | null | Array<SettingsValue> | SettingsObject);

/** `PATCH /api/users/me`: absent fields stay. */
export type UpdateProfileRequest = {
    about?: (string | null);
    contactable_by?: (ContactableBy | null);
    display_name?: (string | null);
    presence_visible_to?: (PresenceVisibleTo | null);
    read_receipts?: (boolean | null);
    status?: (SetStatus | null);
};

/** A user: the `sub` claim of the tenant's realm. */
export type UserId = string;

/** A user as others see them. */
export type UserProfile = {
    /** Free text, at most 500 characters. */
    about: string;
    /** The account is deleted. The username stays, and is not given out again; nothing else is left of the profile. */
    deleted?: boolean;
    display_name: string;
    status?: (UserStatus | null);
    user_id: UserId;
    username: string;
};

/** What a user is doing at present: a text, an emoji, or both. */
export type UserStatus = {
    emoji?: (string | null);
    /** Milliseconds since the epoch. Without it the status stays until it is changed. */
    expires_at_ms?: (number | null);
    text?: (string | null);
};

// Derived from docs/api/auth.openapi.json by `make generate`.

/** The account is deleted, or its deletion goes on. */
export type AccountDeleted = {
    /**
     * Shows at `GET /api/users/erasures/{receipt}` what is erased and when, without an account, for 90 days. It is given here and
     * nowhere else.
     */
    receipt: ReceiptToken;
};

/** An external identity provider that users may sign in with. */
export type AuthProvider = {
    /** As in `/api/auth/login/{alias}`. */
    alias: string;
    /** What users read on the button. */
    display_name: string;
};

/** A session of the caller that goes on. */
export type AuthSession = {
    /** The session of the access token that the request came with. */
    is_current: boolean;
    /** When it was signed in or refreshed last, in milliseconds since the epoch. */
    last_used_at_ms: number;
    session_id: string;
    /** When it was signed in, in milliseconds since the epoch. */
    started_at_ms: number;
};

/** `POST /api/auth/change-password` */
export type ChangePasswordRequest = {
    current_password: string;
    new_password: string;
};

/** `POST /api/auth/email/confirm` */
export type ConfirmEmailRequest = {
    token: string;
};

/** Why a request was refused. Stable: a client may branch on it. */
export type ErrorCode = ("malformed" | "invalid_argument" | "unauthenticated" | "token_expired" | "permission_denied" | "not_a_member" | "consent_required" | "not_found" | "no_such_file" | "not_configured" | "method_not_allowed" | "unsupported_media_type" | "conflict" | "cursor_expired" | "limit_reached" | "idempotency_conflict" | "too_large" | "rate_limited" | "slow_mode" | "unavailable" | "internal");

/** `POST /api/auth/password/forgot` */
export type ForgotPasswordRequest = {
    email: string;
};

/** `POST /api/auth/login` */
export type LoginCodeRequest = {
    /** The `login_code` that the browser came back with. */
    code: string;
};

/** The e-mail address of the caller's account. */
export type OwnEmailAddress = {
    /** Absent when the account has none. */
    email?: (string | null);
    /** The user has shown that they read mail there. A link for a new password is sent to no other address. */
    is_confirmed: boolean;
};

/** One page of a list. `next_cursor` is absent on the last page; pass it back as `cursor`. */
export type Page_AuthProvider = {
    items: Array<{
        /** As in `/api/auth/login/{alias}`. */
        alias: string;
        /** What users read on the button. */
        display_name: string;
    }>;
    next_cursor?: (string | null);
};

/** One page of a list. `next_cursor` is absent on the last page; pass it back as `cursor`. */
export type Page_AuthSession = {
    items: Array<{
        /** The session of the access token that the request came with. */
        is_current: boolean;
        /** When it was signed in or refreshed last, in milliseconds since the epoch. */
        last_used_at_ms: number;
        session_id: string;
        /** When it was signed in, in milliseconds since the epoch. */
        started_at_ms: number;
    }>;
    next_cursor?: (string | null);
};

/** The password is changed, and all other sessions have ended. */
export type PasswordChanged = {
    /**
     * The confirmed address to which a link for a new password is sent. Clients show it: who knew the password of before may have
     * confirmed one of their own, and `PUT /api/auth/email` puts that of the user in its place. Absent when no link is sent.
     */
    email?: (string | null);
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

export type ReceiptToken = string;

/** `POST /api/auth/refresh` and `POST /api/auth/sign-out` */
export type RefreshRequest = {
    refresh_token: string;
};

/** `POST /api/auth/register` */
export type RegisterRequest = {
    display_name?: (string | null);
    password: string;
    username: string;
};

export type Registered = {
    user_id: UserId;
    username: string;
};

/** `POST /api/auth/password/reset` */
export type ResetPasswordRequest = {
    password: string;
    token: string;
};

/** `PUT /api/auth/email` */
export type SetEmailRequest = {
    current_password: string;
    email: string;
};

/** `POST /api/auth/sign-in` */
export type SignInRequest = {
    password: string;
    username: string;
};

/** Response to a sign-in or a refresh. */
export type Tokens = {
    /**
     * For `authorization: Bearer` and for `connect`. REST requests with it are served until it expires, also after the session
     * has ended; connections end with the session.
     */
    access_token: string;
    /** Refresh when a fifth of it is left, or 30 seconds, whichever is more. */
    expires_in_seconds: number;
    /** The session ends when it is not refreshed for this long. */
    refresh_expires_in_seconds: number;
    /** Good for one refresh: the response has the next one. */
    refresh_token: string;
};

/** A user: the `sub` claim of the tenant's realm. */
export type UserId = string;

// Derived from docs/api/web.openapi.json by `make generate`.

/** Why a request was refused. Stable: a client may branch on it. */
export type ErrorCode = ("malformed" | "invalid_argument" | "unauthenticated" | "token_expired" | "permission_denied" | "not_a_member" | "consent_required" | "not_found" | "no_such_file" | "not_configured" | "method_not_allowed" | "unsupported_media_type" | "conflict" | "cursor_expired" | "limit_reached" | "idempotency_conflict" | "too_large" | "rate_limited" | "slow_mode" | "unavailable" | "internal");

/** What the page has to know of the tenant, the same for every user. */
export type PageConfig = {
    /** The tenant's colour, as `#rrggbb`. The page makes it darker or lighter where it would not be seen. Absent where the tenant has none. */
    color?: (string | null);
    /** A picture that is shown beside the name, as a `data:` URL. Absent where the tenant has none. */
    logo?: (string | null);
    /** What users read as the name of the messenger. */
    name: string;
    /** The issuer of the realm on whose page users sign in. Absent where there is none: then with `POST /api/auth/sign-in`. */
    realm?: (string | null);
    /** The services that the tenant has. */
    services: Array<string>;
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

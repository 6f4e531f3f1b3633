// Derived from docs/api/notification.openapi.json by `make generate`.

/** `POST /api/notifications/subscriptions/{subscription}/confirmation` */
export type ConfirmNumberRequest = {
    code: string;
};

/** `POST /api/notifications/confirmations` */
export type ConfirmSubscriptionRequest = {
    token: string;
};

/** `POST /api/notifications/subscriptions`: where the caller is notified of messages. */
export type CreateSubscriptionRequest = ({
    /** What a browser returned for `PushManager.subscribe`, with the key of `GET /api/notifications/channels`. */
    web_push: WebPushTarget;
} | {
    /** Signed requests to a server of the user. */
    webhook: WebhookTarget;
} | {
    /** Mails that sum up what was missed. */
    email: EmailTarget;
} | {
    /** An app that Firebase Cloud Messaging reaches. */
    fcm: FcmTarget;
} | {
    /** Text messages that say how much was missed. The number counts once its code was confirmed. */
    sms: SmsTarget;
});

/** An address of the user. */
export type EmailTarget = {
    address: string;
};

/** Why a request was refused. Stable: a client may branch on it. */
export type ErrorCode = ("malformed" | "invalid_argument" | "unauthenticated" | "token_expired" | "permission_denied" | "not_a_member" | "consent_required" | "not_found" | "no_such_file" | "not_configured" | "method_not_allowed" | "unsupported_media_type" | "conflict" | "cursor_expired" | "limit_reached" | "idempotency_conflict" | "too_large" | "rate_limited" | "slow_mode" | "unavailable" | "internal");

/** An app as Firebase Cloud Messaging knows it. */
export type FcmTarget = {
    token: string;
};

/** How a user is notified. */
export type NotificationChannel = ("web_push" | "webhook" | "email" | "fcm" | "sms");

/** What the messenger can tell users by. */
export type NotificationChannels = {
    /** Whether the messenger sends mails. */
    email: boolean;
    /** Whether it reaches apps by Firebase Cloud Messaging. */
    fcm: boolean;
    /** Whether it sends text messages. */
    sms: boolean;
    /** The `applicationServerKey` of browsers, in base64url. */
    web_push_key: string;
};

/** Of what a user is notified. */
export type NotificationLevel = ("all" | "mentions" | "none");

/** Of what and when a user is notified. A chat that is muted (`PATCH /api/chats/{chat}/me`) tells nothing, whatever this says. */
export type NotificationPreferences = {
    level: NotificationLevel;
    quiet?: (QuietHours | null);
    /** Whether notifications have the text of the message. A mail and a text message never have. */
    shows_text: boolean;
};

/** One page of a list. `next_cursor` is absent on the last page; pass it back as `cursor`. */
export type Page_Subscription = {
    items: Array<{
        channel: NotificationChannel;
        /** Nothing is sent to an address or a number before its user confirmed it. */
        confirmed: boolean;
        created_at_ms: number;
        id: SubscriptionId;
        /** The host of an endpoint, the address of mails, the number of text messages, or `app`. */
        name: string;
        /** Of a new webhook, and never shown again: what its requests are signed with. */
        secret?: (string | null);
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

/** Hours of every day. One that ends before it begins lasts over midnight. */
export type QuietHours = {
    from: string;
    time_zone: string;
    to: string;
};

/** A phone of the user. */
export type SmsTarget = {
    number: string;
};

/** Where a user is notified. */
export type Subscription = {
    channel: NotificationChannel;
    /** Nothing is sent to an address or a number before its user confirmed it. */
    confirmed: boolean;
    created_at_ms: number;
    id: SubscriptionId;
    /** The host of an endpoint, the address of mails, the number of text messages, or `app`. */
    name: string;
    /** Of a new webhook, and never shown again: what its requests are signed with. */
    secret?: (string | null);
};

/** Where a user is notified of messages that no device takes. */
export type SubscriptionId = string;

/** The keys of such a subscription, in base64url without padding. */
export type WebPushKeys = {
    auth: string;
    p256dh: string;
};

/** A subscription as browsers have it. */
export type WebPushTarget = {
    endpoint: string;
    keys: WebPushKeys;
};

/** A server of the user. */
export type WebhookTarget = {
    url: string;
};

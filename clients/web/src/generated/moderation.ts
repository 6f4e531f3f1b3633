// Derived from docs/api/moderation.openapi.json by `make generate`.

/** The appeal of a user against a sanction. */
export type Appeal = {
    /** Milliseconds since the epoch. */
    created_at_ms: number;
    decision?: (Decision | null);
    id: AppealId;
    sanction: SanctionId;
    state: AppealState;
    text: string;
    user: UserId;
};

/** The appeal of a user against a sanction. */
export type AppealId = string;

/** How far an appeal is. */
export type AppealState = ("open" | "accepted" | "refused");

/** Files by their media types. */
export type AttachmentsRule = {
    /** These are the ones that are allowed: a file of any other is caught. */
    allow_only?: boolean;
    /** Such as `image/png` or `image/*`. */
    types: Array<string>;
};

/** Something that was done, and by whom. Entries are never changed. */
export type AuditEntry = {
    /** Such as `sanction_created`. */
    action: string;
    /** Milliseconds since the epoch. */
    at_ms: number;
    by?: (UserId | null);
    /** Its place: greater ones are later. */
    id: number;
    /** The id of the report, sanction, appeal, rule set or session; of a message its chat and seq. */
    subject: string;
    user?: (UserId | null);
};

/** A chat, direct or group. Also the Kafka record key, which keeps one chat on one partition. */
export type ChatId = string;

/**
 * A label of the tenant's classifier (`spec.moderation.classifier`). It is asked after all other rules have judged, which do not wait for it; what follows
 * from its answer comes beside what followed from them. A set with such a rule is enforced where the tenant has a classifier, and a shadow run asks none.
 */
export type ClassifierRule = {
    label: string;
    /** The least score that is caught, in percent. */
    percent: number;
};

/** `POST /api/moderation/appeals` */
export type CreateAppealRequest = {
    /** One of the caller's. */
    sanction: SanctionId;
    text: string;
};

/** `POST /api/moderation/reports` */
export type CreateReportRequest = {
    /** A chat of the caller. */
    chat: ChatId;
    comment?: (string | null);
    reason: ReportReason;
    /** A message that the caller reads there. */
    seq: number;
};

/** `POST /api/moderation/rule-sets` */
export type CreateRuleSetRequest = {
    name: string;
    /** Each is judged by itself. Of what those want that a message is caught by, the strictest is done. */
    rules: Array<Rule>;
};

/** `POST /api/moderation/sanctions` */
export type CreateSanctionRequest = {
    chat?: (ChatId | null);
    kind: SanctionKind;
    /** The user reads it. */
    note: string;
    /** For so long; for good when absent. */
    seconds?: (number | null);
    user: UserId;
};

/** `POST /api/moderation/appeals/{appeal}/decision` */
export type DecideAppealRequest = {
    /** The sanction is lifted. */
    accepted: boolean;
    /** The user reads it. */
    note: string;
};

/** `POST /api/moderation/reports/{report}/decision` */
export type DecideReportRequest = {
    /** The message loses its text and files, for good. */
    delete?: boolean;
    /** The sender reads it with the sanction. */
    note: string;
    sanction?: (SanctionTerms | null);
    /** Whether the message breaks the rules. Otherwise the next two have no effect. */
    upheld: boolean;
};

/** What a moderator decided. */
export type Decision = {
    /** Milliseconds since the epoch. */
    at_ms: number;
    by?: (UserId | null);
    note: string;
};

/** Why a request was refused. Stable: a client may branch on it. */
export type ErrorCode = ("malformed" | "invalid_argument" | "unauthenticated" | "token_expired" | "permission_denied" | "not_a_member" | "consent_required" | "not_found" | "no_such_file" | "not_configured" | "method_not_allowed" | "unsupported_media_type" | "conflict" | "cursor_expired" | "limit_reached" | "idempotency_conflict" | "too_large" | "rate_limited" | "slow_mode" | "unavailable" | "internal");

/** What a message was when it was reported. It stays when the message is edited or deleted. */
export type Evidence = {
    /** The names and types of its files. */
    files?: Array<string>;
    /** Milliseconds since the epoch. */
    sent_at_ms: number;
    text: string;
};

/** What a rule set did, or would have done. */
export type Figures = {
    /** Messages and edits that were caught by any rule. */
    caught: number;
    /** Of them, those that were deleted. */
    deletions: number;
    /** Likewise, that were reported. */
    reports: number;
    /** By name. */
    rules: Array<RuleFigures>;
    /** Likewise, whose senders got a sanction. */
    sanctions: number;
};

/** `POST /api/moderation/sanctions/{sanction}/lift` */
export type LiftRequest = {
    note: string;
};

/** Links by the domains that they lead to. */
export type LinksRule = {
    /** These are the ones that are allowed: a link to any other is caught. */
    allow_only?: boolean;
    /** Each with all domains below it. */
    domains: Array<string>;
};

/** A moderator, as the manifest of the tenant names them. */
export type NamedModerator = {
    /** A username, or `id:` and the id of a user. */
    named: string;
    user?: (UserId | null);
};

/** `GET /api/moderation/own` */
export type OwnModeration = {
    /** The caller's appeals against them. */
    appeals: Array<Appeal>;
    /** Whether the caller is a moderator. */
    moderates: boolean;
    /** The caller's sanctions, the newest first: the last 100. */
    sanctions: Array<Sanction>;
};

/** One page of a list. `next_cursor` is absent on the last page; pass it back as `cursor`. */
export type Page_Appeal = {
    items: Array<{
        /** Milliseconds since the epoch. */
        created_at_ms: number;
        decision?: (Decision | null);
        id: AppealId;
        sanction: SanctionId;
        state: AppealState;
        text: string;
        user: UserId;
    }>;
    next_cursor?: (string | null);
};

/** One page of a list. `next_cursor` is absent on the last page; pass it back as `cursor`. */
export type Page_AuditEntry = {
    items: Array<{
        /** Such as `sanction_created`. */
        action: string;
        /** Milliseconds since the epoch. */
        at_ms: number;
        by?: (UserId | null);
        /** Its place: greater ones are later. */
        id: number;
        /** The id of the report, sanction, appeal, rule set or session; of a message its chat and seq. */
        subject: string;
        user?: (UserId | null);
    }>;
    next_cursor?: (string | null);
};

/** One page of a list. `next_cursor` is absent on the last page; pass it back as `cursor`. */
export type Page_NamedModerator = {
    items: Array<{
        /** A username, or `id:` and the id of a user. */
        named: string;
        user?: (UserId | null);
    }>;
    next_cursor?: (string | null);
};

/** One page of a list. `next_cursor` is absent on the last page; pass it back as `cursor`. */
export type Page_Report = {
    items: Array<{
        by?: (UserId | null);
        chat: ChatId;
        /** In the words of the user, or the names of the rules. */
        comment?: (string | null);
        /** Milliseconds since the epoch. */
        created_at_ms: number;
        decision?: (Decision | null);
        evidence: Evidence;
        id: ReportId;
        reason?: (ReportReason | null);
        /** Who wrote it. */
        sender: UserId;
        seq: number;
        state: ReportState;
    }>;
    next_cursor?: (string | null);
};

/** One page of a list. `next_cursor` is absent on the last page; pass it back as `cursor`. */
export type Page_RuleSet = {
    items: Array<{
        /** Milliseconds since the epoch; likewise the next two. */
        created_at_ms: number;
        created_by: UserId;
        /** Messages that were sent from then on are judged, by the log's clock. */
        enforced_from_ms?: (number | null);
        id: RuleSetId;
        name: string;
        /** Messages that were sent from then on are not judged. */
        retired_from_ms?: (number | null);
        rules: Array<Rule>;
        state: RuleSetState;
    }>;
    next_cursor?: (string | null);
};

/** One page of a list. `next_cursor` is absent on the last page; pass it back as `cursor`. */
export type Page_Sanction = {
    items: Array<{
        by?: (UserId | null);
        chat?: (ChatId | null);
        /** Milliseconds since the epoch. */
        created_at_ms: number;
        id: SanctionId;
        kind: SanctionKind;
        lifted?: (Decision | null);
        /** The words of the moderator, or the names of the rules. */
        note: string;
        /** Milliseconds since the epoch; for good when absent. */
        until_ms?: (number | null);
        user: UserId;
    }>;
    next_cursor?: (string | null);
};

/** One page of a list. `next_cursor` is absent on the last page; pass it back as `cursor`. */
export type Page_UserSession = {
    items: Array<{
        /** When it was signed in or refreshed last, in milliseconds since the epoch. */
        last_used_at_ms: number;
        session_id: string;
        /** When it was signed in, in milliseconds since the epoch. */
        started_at_ms: number;
    }>;
    next_cursor?: (string | null);
};

/**
 * A regular expression without look-around and references to groups. It is compared with the text in lower case, without invisible characters, and
 * once more with all that looks like a Latin letter as that letter.
 */
export type PatternRule = {
    pattern: string;
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

/** More than so many messages of one user in one chat within a time. */
export type RateRule = {
    messages: number;
    seconds: number;
};

/** A message that was reported. */
export type Report = {
    by?: (UserId | null);
    chat: ChatId;
    /** In the words of the user, or the names of the rules. */
    comment?: (string | null);
    /** Milliseconds since the epoch. */
    created_at_ms: number;
    decision?: (Decision | null);
    evidence: Evidence;
    id: ReportId;
    reason?: (ReportReason | null);
    /** Who wrote it. */
    sender: UserId;
    seq: number;
    state: ReportState;
};

/** A message that was reported to the moderators. */
export type ReportId = string;

/** Why a message is reported. */
export type ReportReason = ("spam" | "abuse" | "violence" | "sexual" | "illegal" | "other");

/** How far a report is. */
export type ReportState = ("open" | "upheld" | "dismissed");

/** What a message is caught by, and what is done then. */
export type Rule = {
    action: RuleAction;
    /** No two rules of a set have one name. */
    name: string;
    test: RuleTest;
};

/** What is done with a message that is caught, and with its sender. */
export type RuleAction = {
    /** The message loses its text and files, for good. */
    delete?: boolean;
    /** The moderators see it among the reports. */
    report?: boolean;
    sanction?: (SanctionTerms | null);
};

/** How much one rule caught. */
export type RuleFigures = {
    caught: number;
    rule: string;
};

/** Rules that are judged together. They never change: other rules are another set. */
export type RuleSet = {
    /** Milliseconds since the epoch; likewise the next two. */
    created_at_ms: number;
    created_by: UserId;
    /** Messages that were sent from then on are judged, by the log's clock. */
    enforced_from_ms?: (number | null);
    id: RuleSetId;
    name: string;
    /** Messages that were sent from then on are not judged. */
    retired_from_ms?: (number | null);
    rules: Array<Rule>;
    state: RuleSetState;
};

/** A set of rules by which messages are judged. What it says never changes. */
export type RuleSetId = string;

/** How far a rule set is. */
export type RuleSetState = ("draft" | "enforced" | "retired");

/** What a message is caught by. */
export type RuleTest = ({
    /** It has one of these words or phrases. */
    words: WordsRule;
} | {
    /** It has a part that the pattern describes. */
    pattern: PatternRule;
} | {
    /** It has a link. */
    links: LinksRule;
} | {
    /** Its sender has written too much in the chat. */
    rate: RateRule;
} | {
    /** It has a file. */
    attachments: AttachmentsRule;
} | {
    /** The tenant's classifier gives it a label. */
    classifier: ClassifierRule;
});

/** A message that a rule would have caught. */
export type Sample = {
    chat: ChatId;
    rule: string;
    sender: UserId;
    /** Milliseconds since the epoch. */
    sent_at_ms: number;
    seq: number;
    /** Its beginning. */
    text: string;
};

/** A warning, a mute or a ban. */
export type Sanction = {
    by?: (UserId | null);
    chat?: (ChatId | null);
    /** Milliseconds since the epoch. */
    created_at_ms: number;
    id: SanctionId;
    kind: SanctionKind;
    lifted?: (Decision | null);
    /** The words of the moderator, or the names of the rules. */
    note: string;
    /** Milliseconds since the epoch; for good when absent. */
    until_ms?: (number | null);
    user: UserId;
};

/** A warning, a mute or a ban of a user. */
export type SanctionId = string;

/** How strict a sanction is. */
export type SanctionKind = ("warning" | "mute" | "ban");

/** What a user gets. */
export type SanctionTerms = {
    /** In the whole messenger, and not in the chat alone. */
    everywhere?: boolean;
    kind: SanctionKind;
    /** For so long; for good when absent. Of a warning it has no effect. */
    seconds?: (number | null);
};

/** `POST /api/moderation/rule-sets/{rule_set}/shadow` */
export type ShadowRequest = {
    /** The log of so many days is judged, as far as it is kept. */
    days: number;
};

/** What a rule set would have done. */
export type ShadowRun = {
    days: number;
    figures: Figures;
    finished_at_ms?: (number | null);
    /** When the first message was sent that was judged: the log may not reach back as far as was wanted. */
    from_ms?: (number | null);
    /** Messages and edits that were judged. */
    judged: number;
    rule_set: RuleSetId;
    /** The first that each rule would have caught, up to ten of each. */
    samples: Array<Sample>;
    /** Milliseconds since the epoch; likewise the next. */
    started_at_ms: number;
    state: ShadowState;
    /** Of them, those that a classifier would have been asked about: rules with one are not in the figures. */
    unjudged?: number;
};

/** How far a shadow run is. */
export type ShadowState = ("running" | "done" | "failed");

/** `GET /api/moderation/usage`: how much there is, or was half a minute ago at most. */
export type TenantUsage = {
    banned_users: number;
    /** Messages and edits that rules caught in the last 90 days. */
    caught: number;
    enforced_rule_sets: number;
    /** Users who are muted in the whole messenger; likewise the next. */
    muted_users: number;
    open_appeals: number;
    open_reports: number;
    /** Users whose accounts are not deleted. */
    users: number;
};

/** A user: the `sub` claim of the tenant's realm. */
export type UserId = string;

/** A session of a user that goes on, as moderators see it. */
export type UserSession = {
    /** When it was signed in or refreshed last, in milliseconds since the epoch. */
    last_used_at_ms: number;
    session_id: string;
    /** When it was signed in, in milliseconds since the epoch. */
    started_at_ms: number;
};

/** Words and phrases, as whole words. */
export type WordsRule = {
    /**
     * Letters of other scripts and digits that look alike are told apart, and so are letters that are repeated or stand alone. Otherwise they
     * are not.
     */
    exact?: boolean;
    /** At most 10,000 in a set. Case, width, accents and invisible characters do not count. */
    words: Array<string>;
};

// What a user tells the moderators, and what they decided about the user. All throw a `CallError`: `not_found` where there are no moderators.
import type { Appeal, CreateReportRequest, OwnModeration, Report } from "./generated/moderation.js";
import type { Identity } from "./messenger.js";

/** Reports a message as it is at this moment. One that was reported before gives the report that there is. */
export function report(identity: Identity, request: CreateReportRequest): Promise<Report> {
    return identity.call("POST", "/api/moderation/reports", request);
}

/** Returns the sanctions against the user, and the user's appeals. */
export function own(identity: Identity): Promise<OwnModeration> {
    return identity.call("GET", "/api/moderation/own");
}

/** Appeals against a sanction, once. */
export function appeal(identity: Identity, sanction: string, text: string): Promise<Appeal> {
    return identity.call("POST", "/api/moderation/appeals", { sanction, text });
}

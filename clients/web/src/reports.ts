// What a user tells the moderators, and what they decided about the user. All throw a `CallError`: `not_found` where there are no moderators.
import type { Appeal, CreateReportRequest, OwnModeration, Report } from "./generated/moderation.js";
import type { Identity } from "./messenger.js";

/** Reports a message as it is at this moment. One that was reported before gives the report that there is. */
export function report(identity: Pick<Identity, "call">, request: CreateReportRequest): Promise<Report> {
    return identity.call("POST", "/api/moderation/reports", request);
}

/** Returns the sanctions against the user, and the user's appeals. */
export function own(identity: Pick<Identity, "call">): Promise<OwnModeration> {
    return identity.call("GET", "/api/moderation/own");
}

/** Appeals against a sanction, once. */
export function appeal(identity: Pick<Identity, "call">, sanction: string, text: string): Promise<Appeal> {
    return identity.call("POST", "/api/moderation/appeals", { sanction, text });
}

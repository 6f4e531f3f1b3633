// What moderators see and do. It is loaded with the console, and a user who is no moderator has none of it.
import {
    CallError,
    type auth,
    type chat as chats,
    type Identity,
    type moderation,
    type user as users,
} from "@posthouse/client";
import type { Standing } from "../standing";
import type { Users } from "../users";
import { Exports } from "./exports";
import { Listing } from "./listing";
import { RuleSets } from "./rule-sets";

/** Makes calls: an `Identity`, and what stands around one. */
export type Caller = Pick<Identity, "call">;

/** A session of a user that goes on. */
export type UserSession = Pick<auth.AuthSession, "session_id" | "started_at_ms" | "last_used_at_ms">;

/** `GET /api/moderation/usage` */
export type Usage = {
    /** Accounts that are not deleted. */
    users: number;
    open_reports: number;
    open_appeals: number;
    /** Users who are muted everywhere, and who are banned everywhere. */
    muted_users: number;
    banned_users: number;
    enforced_rule_sets: number;
    /** Messages and edits that rules caught in the last 90 days. */
    caught: number;
};

const ROOT = "/api/moderation";

export class Admin {
    readonly users: Listing<users.UserProfile>;
    readonly reports: Listing<moderation.Report>;
    readonly appeals: Listing<moderation.Appeal>;
    readonly audit: Listing<moderation.AuditEntry>;
    /** Whom the manifest of the tenant names. */
    readonly moderators: Listing<moderation.NamedModerator>;
    readonly rules: RuleSets;
    readonly exports: Exports;
    readonly #caller: Caller;
    /** A repeated request has the key of the first: what was done while its answer was lost is not done twice. */
    readonly #keys = new Map<string, string>();

    constructor(identity: Caller, standing: Standing, users: Users) {
        this.#caller = {
            async call<T>(
                method: string,
                path: string,
                ...rest: [body?: unknown, headers?: Record<string, string>]
            ) {
                try {
                    return await identity.call<T>(method, path, ...rest);
                } catch (error) {
                    // In a chat it means something else.
                    const isRefusal = error instanceof CallError && error.code === "permission_denied";
                    if (isRefusal && path.startsWith(ROOT)) standing.loseRole();
                    throw error;
                }
            },
        };
        const caller = this.#caller;
        this.users = new Listing<users.UserProfile>(
            {
                async call<T>(method: string, path: string) {
                    const page = await caller.call<T>(method, path);
                    users.take(...(page as users.Page_UserProfile).items);
                    return page;
                },
            },
            "/api/users",
            ({ user_id }) => user_id,
        );
        this.reports = new Listing(caller, `${ROOT}/reports`, ({ id }) => id);
        this.appeals = new Listing(caller, `${ROOT}/appeals`, ({ id }) => id);
        this.audit = new Listing(caller, `${ROOT}/audit`, ({ id }) => String(id));
        this.moderators = new Listing(caller, `${ROOT}/moderators`, ({ named }) => named);
        this.rules = new RuleSets(caller, (path, body) => this.#once(path, body));
        this.exports = new Exports(caller);
    }

    /** Returns the sanctions of a user, the newest first. */
    sanctionsOf(user: string): Listing<moderation.Sanction> {
        const sanctions = new Listing<moderation.Sanction>(this.#caller, `${ROOT}/sanctions`, ({ id }) => id);
        sanctions.filter = { user };
        return sanctions;
    }

    /** Returns one sanction of a user; what is not among the user's last ones is not found. */
    async sanction(user: string, id: string): Promise<moderation.Sanction | undefined> {
        const page: moderation.Page_Sanction = await this.#caller.call(
            "GET",
            `${ROOT}/sanctions?user=${user}&limit=100`,
        );
        return page.items.find((sanction) => sanction.id === id);
    }

    sanctionUser(request: moderation.CreateSanctionRequest): Promise<moderation.Sanction> {
        return this.#once(`${ROOT}/sanctions`, request);
    }

    lift(sanction: string, note: string): Promise<moderation.Sanction> {
        return this.#caller.call("POST", `${ROOT}/sanctions/${sanction}/lift`, { note });
    }

    /** Returns the sessions of a user that go on, the last used one first. */
    async sessionsOf(user: string): Promise<UserSession[]> {
        const page: { items: UserSession[] } = await this.#caller.call("GET", `${ROOT}/users/${user}/sessions`);
        return page.items;
    }

    /** Ends a session of a user; one that has ended meanwhile is what was wanted. */
    async endSession(user: string, session: string): Promise<void> {
        try {
            await this.#caller.call("DELETE", `${ROOT}/users/${user}/sessions/${session}`);
        } catch (error) {
            if (!(error instanceof CallError) || error.code !== "not_found") throw error;
        }
    }

    usage(): Promise<Usage> {
        return this.#caller.call("GET", `${ROOT}/usage`);
    }

    async decideReport(report: string, request: moderation.DecideReportRequest): Promise<void> {
        this.reports.put(await this.#decided(`${ROOT}/reports/${report}`, request, this.reports));
    }

    async decideAppeal(appeal: string, request: moderation.DecideAppealRequest): Promise<void> {
        this.appeals.put(await this.#decided(`${ROOT}/appeals/${appeal}`, request, this.appeals));
    }

    /** Returns the groups and channels that the user may invite to. */
    async managedChats(): Promise<chats.Chat[]> {
        const managed: chats.Chat[] = [];
        let cursor: string | null | undefined;
        do {
            const query: string = cursor ? `&cursor=${encodeURIComponent(cursor)}` : "";
            const page: chats.Page_Chat = await this.#caller.call("GET", `/api/chats?limit=100${query}`);
            managed.push(
                ...page.items.filter(
                    ({ kind, role }) => kind !== "direct" && (role === "owner" || role === "admin"),
                ),
            );
            cursor = page.next_cursor;
        } while (cursor);
        return managed;
    }

    /** Decides once. Where another moderator was first, what they decided is read, and the refusal goes on to who tried. */
    async #decided<T>(path: string, request: unknown, list: Listing<T>): Promise<T> {
        try {
            return await this.#caller.call<T>("POST", `${path}/decision`, request);
        } catch (error) {
            if (error instanceof CallError && error.code === "conflict") void list.open();
            throw error;
        }
    }

    async #once<T>(path: string, request: unknown): Promise<T> {
        const what = `${path} ${JSON.stringify(request)}`;
        const key = this.#keys.get(what) ?? crypto.randomUUID();
        this.#keys.set(what, key);
        const answer = await this.#caller.call<T>("POST", path, request, { "idempotency-key": key });
        // The same request after it was answered is another one.
        this.#keys.delete(what);
        return answer;
    }
}

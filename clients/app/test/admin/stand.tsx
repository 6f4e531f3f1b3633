// A messenger with a moderation service that a test speaks for, below the real state of the console.
import { CallError, type Identity, type moderation } from "@posthouse/client";
import type { ReactNode } from "react";
import { Admin } from "../../src/state/admin/admin";
import { Standing } from "../../src/state/standing";
import { loadAdminTexts } from "../../src/text/admin";
import { AdminProvider } from "../../src/ui/admin/context";
import { ANNA, CHAT, ME, profile, stand, type Stand } from "../stand";

export type Call = { method: string; path: string; body: unknown; headers: Record<string, string> };
type Answer = unknown | ((call: Call) => unknown);

/** Answers calls by `METHOD path`, without the query; a function sees the call. What no one has described is not found. */
export class FakeService {
    readonly calls: Call[] = [];
    readonly answers: Record<string, Answer>;

    constructor(answers: Record<string, Answer> = {}) {
        this.answers = answers;
    }

    /** Calls of one kind. */
    of(what: string): Call[] {
        return this.calls.filter(({ method, path }) => `${method} ${path.split("?")[0]}` === what);
    }

    readonly call = async <T,>(
        method: string,
        path: string,
        body?: unknown,
        headers: Record<string, string> = {},
    ): Promise<T> => {
        const call = { method, path, body, headers };
        this.calls.push(call);
        const answer = this.answers[`${method} ${path.split("?")[0]}`];
        if (answer === undefined) throw refusal("not_found");
        return (typeof answer === "function" ? await (answer as (call: Call) => unknown)(call) : answer) as T;
    };
}

const STATUS = { permission_denied: 403, not_found: 404, conflict: 409, unavailable: 503 } as const;

export function refusal(code: keyof typeof STATUS, detail?: string): CallError {
    const status = STATUS[code];
    return new CallError(code, status, {
        ...{ type: `urn:posthouse:error:${code}`, title: code, status, code },
        ...(detail !== undefined && { detail }),
    });
}

export const REPORT: moderation.Report = {
    ...{ id: "44444444-4444-4444-8444-444444444444", chat: CHAT, seq: 7, sender: ANNA, by: ME },
    ...{ reason: "spam", comment: "again", state: "open", created_at_ms: 1_700_000_000_000 },
    evidence: {
        text: "buy <b>this</b>",
        files: ["offer.pdf (application/pdf)"],
        sent_at_ms: 1_699_999_000_000,
    },
};

export const SET: moderation.RuleSet = {
    ...{ id: "55555555-5555-4555-8555-555555555555", name: "Adverts", state: "draft", created_by: ME },
    created_at_ms: 1_700_000_000_000,
    rules: [{ name: "offers", test: { words: { words: ["offer"] } }, action: { report: true } }],
};

export const BAN: moderation.Sanction = {
    ...{ id: "66666666-6666-4666-8666-666666666666", user: ANNA, kind: "ban", note: "spam", by: ME },
    created_at_ms: 1_700_000_000_000,
};

export type AdminStand = Stand & { admin: Admin; service: FakeService; standing: Standing };

/** Shows screens of the console as a moderator has them. */
export async function adminStand(answers: Record<string, Answer>): Promise<AdminStand> {
    const on = await stand();
    const service = new FakeService(answers);
    const identity = service as unknown as Identity;
    const standing = new Standing(identity);
    standing.moderates = true;
    on.workspace.users.take(profile(ANNA, "anna", "Anna"));
    const page = {
        admin: new Admin(identity, standing, on.workspace.users),
        texts: await loadAdminTexts("en"),
    };
    const show = (children: ReactNode) => on.show(<AdminProvider value={page}>{children}</AdminProvider>);
    return { ...on, admin: page.admin, service, standing, show };
}

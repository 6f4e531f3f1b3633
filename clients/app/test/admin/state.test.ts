import type { moderation } from "@posthouse/client";
import { afterEach, expect, test, vi } from "vitest";
import { Admin } from "../../src/state/admin/admin";
import { Listing } from "../../src/state/admin/listing";
import { draftOf, newRule, problemOf, requestOf } from "../../src/state/admin/rule-draft";
import { Standing } from "../../src/state/standing";
import type { Users } from "../../src/state/users";
import { auditFilter } from "../../src/ui/admin/audit";
import { ANNA, ME } from "../stand";
import { BAN, FakeService, refusal, REPORT, SET } from "./stand";

const NOBODY = { take: () => undefined } as unknown as Users;

function admin(answers: ConstructorParameters<typeof FakeService>[0]) {
    const service = new FakeService(answers);
    const standing = new Standing(service);
    standing.moderates = true;
    return { service, standing, admin: new Admin(service, standing, NOBODY) };
}

afterEach(() => void vi.useRealTimers());

test("who is a moderator the messenger says, and a messenger without the service has none", async () => {
    for (const [answer, expected] of [
        [{ moderates: true, sanctions: [], appeals: [] }, true],
        [{ moderates: false, sanctions: [], appeals: [] }, false],
        [undefined, false],
    ] as const) {
        const standing = new Standing(
            new FakeService(answer === undefined ? {} : { "GET /api/moderation/own": answer }),
        );
        await standing.load();
        expect(standing.moderates).toBe(expected);
    }
});

test("a service that does not answer takes the role from no one, and gives it to no one", async () => {
    const service = new FakeService({
        "GET /api/moderation/own": () => {
            throw refusal("unavailable");
        },
    });
    const standing = new Standing(service);
    await standing.load();
    expect([standing.moderates, standing.error]).toEqual([undefined, expect.anything()]);
    standing.moderates = true;
    await standing.load();
    expect(standing.moderates).toBe(true);
    service.answers["GET /api/moderation/own"] = { moderates: false };
    await standing.load();
    expect([standing.moderates, standing.error]).toEqual([false, undefined]);
});

test("a list is read page by page, and what moved between two pages stands there once", async () => {
    const service = new FakeService({
        "GET /list": ({ path }: { path: string }) =>
            path.includes("cursor=2")
                ? { items: [{ id: "b" }, { id: "c" }] }
                : { items: [{ id: "a" }, { id: "b" }], next_cursor: "2" },
    });
    const list = new Listing<{ id: string }>(service, "/list", ({ id }) => id);
    await list.open({ state: "open", user: undefined, action: "" });
    expect(list.hasMore).toBe(true);
    await list.more();
    expect(list.items.map(({ id }) => id)).toEqual(["a", "b", "c"]);
    expect(list.hasMore).toBe(false);
    expect(service.calls.map(({ path }) => path)).toEqual(["/list?state=open", "/list?state=open&cursor=2"]);
});

test("an answer to an earlier filter comes too late", async () => {
    const answers: Array<(page: unknown) => void> = [];
    const service = new FakeService({ "GET /list": () => new Promise((resolve) => answers.push(resolve)) });
    const list = new Listing<{ id: string }>(service, "/list", ({ id }) => id);
    const first = list.open({ state: "open" });
    const second = list.open({ state: "upheld" });
    answers[1]!({ items: [{ id: "new" }] });
    await second;
    answers[0]!({ items: [{ id: "old" }], next_cursor: "1" });
    await first;
    expect(list.items).toEqual([{ id: "new" }]);
    expect([list.hasMore, list.isLoading]).toEqual([false, false]);
});

test("a page that does not come leaves those before it, and is asked for again", async () => {
    let isDown = true;
    const service = new FakeService({
        "GET /list": ({ path }: { path: string }) => {
            if (!path.includes("cursor")) return { items: [{ id: "a" }], next_cursor: "1" };
            if (isDown) throw refusal("unavailable");
            return { items: [{ id: "b" }] };
        },
    });
    const list = new Listing<{ id: string }>(service, "/list", ({ id }) => id);
    await list.open();
    await list.more();
    expect(list.error).toBeDefined();
    expect(list.items).toEqual([{ id: "a" }]);
    isDown = false;
    await list.more();
    expect(list.error).toBeUndefined();
    expect(list.items).toEqual([{ id: "a" }, { id: "b" }]);
});

test("who is refused as no moderator is none from then on; a chat that refuses says nothing of it", async () => {
    const {
        admin: console,
        standing,
        service,
    } = admin({
        "GET /api/chats": () => {
            throw refusal("permission_denied");
        },
        "GET /api/moderation/reports": () => {
            throw refusal("permission_denied", "you are no moderator");
        },
    });
    await expect(console.managedChats()).rejects.toMatchObject({ code: "permission_denied" });
    expect(standing.moderates).toBe(true);
    await console.reports.open();
    expect(standing.moderates).toBe(false);
    expect(console.reports.error).toMatchObject({ code: "permission_denied" });
    expect(service.calls).toHaveLength(2);
});

test("a request that is repeated because its answer was lost has the key of the first, and the next one another", async () => {
    let isLost = true;
    const { admin: console, service } = admin({
        "POST /api/moderation/sanctions": () => {
            if (isLost) throw refusal("unavailable");
            return BAN;
        },
    });
    const request = { user: ANNA, kind: "ban", note: "spam" } as const;
    await expect(console.sanctionUser(request)).rejects.toThrow();
    isLost = false;
    await console.sanctionUser(request);
    await console.sanctionUser(request);
    const keys = service.calls.map(({ headers }) => headers["idempotency-key"]);
    expect(keys[0]).toBe(keys[1]);
    expect(keys[2]).not.toBe(keys[1]);
    await expect(console.sanctionUser({ ...request, note: "other" })).resolves.toBe(BAN);
    expect(new Set(service.calls.map(({ headers }) => headers["idempotency-key"])).size).toBe(3);
});

test("a report that another moderator has decided meanwhile is read again", async () => {
    const decided = { ...REPORT, state: "upheld", decision: { at_ms: 1, by: ANNA, note: "" } };
    let items: unknown[] = [REPORT];
    const { admin: console } = admin({
        "GET /api/moderation/reports": () => ({ items }),
        [`POST /api/moderation/reports/${REPORT.id}/decision`]: () => {
            items = [decided];
            throw refusal("conflict", "the report is decided");
        },
    });
    await console.reports.open();
    await expect(console.decideReport(REPORT.id, { upheld: false, note: "" })).rejects.toMatchObject({
        code: "conflict",
    });
    await vi.waitFor(() => expect(console.reports.items).toEqual([decided]));
});

test("a session that has ended meanwhile is what was wanted, and one that cannot be ended is said", async () => {
    const { admin: console, service } = admin({});
    await expect(console.endSession(ANNA, "s")).resolves.toBeUndefined();
    service.answers[`DELETE /api/moderation/users/${ANNA}/sessions/s`] = () => {
        throw refusal("unavailable");
    };
    await expect(console.endSession(ANNA, "s")).rejects.toMatchObject({ code: "unavailable" });
});

test("a shadow run is looked at until it has ended, over a fault, and not after the screen is gone", async () => {
    vi.useFakeTimers();
    const run = (state: moderation.ShadowState, judged: number) => ({
        ...{ rule_set: SET.id, days: 7, state, judged, started_at_ms: 0, samples: [] },
        figures: { caught: 0, deletions: 0, reports: 0, sanctions: 0, rules: [] },
    });
    const states: Array<() => unknown> = [
        () => run("running", 10),
        () => {
            throw refusal("unavailable");
        },
        () => run("done", 20),
    ];
    const path = `/api/moderation/rule-sets/${SET.id}/shadow`;
    const { admin: console, service } = admin({
        [`POST ${path}`]: run("running", 0),
        [`GET ${path}`]: () => states.shift()!(),
    });
    await console.rules.beginRun(SET.id, 7);
    console.rules.follow(SET.id);
    await vi.advanceTimersByTimeAsync(10_000);
    expect(console.rules.run(SET.id)).toMatchObject({ state: "done", judged: 20 });
    expect(service.of(`GET ${path}`)).toHaveLength(3);
    states.push(() => run("running", 1));
    const stop = console.rules.follow(SET.id);
    stop();
    await vi.advanceTimersByTimeAsync(10_000);
    expect(service.of(`GET ${path}`)).toHaveLength(3);
});

test("a shadow run that is begun while its set is looked at stays", async () => {
    const figures = { caught: 0, deletions: 0, reports: 0, sanctions: 0, rules: [] };
    const begun = {
        rule_set: SET.id,
        days: 7,
        state: "running",
        judged: 0,
        started_at_ms: 0,
        samples: [],
        figures,
    };
    let come: () => void = () => undefined;
    const late = new Promise<void>((resolve) => (come = resolve));
    const path = `/api/moderation/rule-sets/${SET.id}`;
    const { admin: console } = admin({
        [`GET ${path}/figures`]: figures,
        // It had none when it was asked for.
        [`GET ${path}/shadow`]: async () => {
            await late;
            throw refusal("not_found");
        },
        [`POST ${path}/shadow`]: begun,
    });
    const looked = console.rules.look(SET.id);
    await console.rules.beginRun(SET.id, 7);
    come();
    await looked;
    expect(console.rules.run(SET.id)).toEqual(begun);
    expect(console.rules.figures(SET.id)).toEqual(figures);
});

test("an export has every page, and half of a list is none", async () => {
    const { admin: console, service } = admin({
        "GET /api/moderation/audit": ({ path }: { path: string }) =>
            path.includes("cursor=5") ? { items: [{ id: 2 }] } : { items: [{ id: 9 }], next_cursor: "5" },
        "GET /api/users": ({ path }: { path: string }) => {
            if (path.includes("cursor")) throw refusal("unavailable");
            return { items: [{ user_id: ME }], next_cursor: "1" };
        },
    });
    const file = await console.exports.make("audit");
    expect(await file!.text()).toBe('{"id":9}\n{"id":2}\n');
    expect(service.calls[0]!.path).toBe("/api/moderation/audit?limit=100");
    expect(await console.exports.make("users")).toBeUndefined();
    expect(console.exports.current).toMatchObject({ state: "failed", count: 1 });
});

test("an export that is stopped ends with the page that is on its way, and another one begins again", async () => {
    const answers: Array<(page: unknown) => void> = [];
    const { admin: console, service } = admin({
        "GET /api/users": () => new Promise((resolve) => answers.push(resolve)),
    });
    const first = console.exports.make("users");
    console.exports.stop();
    answers[0]!({ items: [{ user_id: ME }], next_cursor: "1" });
    expect(await first).toBeUndefined();
    expect(console.exports.current).toMatchObject({ state: "stopped", count: 0 });
    expect(service.calls).toHaveLength(1);
});

test("a draft becomes what the messenger takes, and a set becomes the draft that it was", () => {
    const rules: moderation.Rule[] = [
        { name: "words", test: { words: { words: ["a b", "c"], exact: true } }, action: { report: true } },
        { name: "pattern", test: { pattern: { pattern: " a+ " } }, action: { delete: true } },
        {
            name: "links",
            test: { links: { domains: [], allow_only: true } },
            action: { sanction: { kind: "mute", everywhere: true, seconds: 3_600 } },
        },
        {
            name: "rate",
            test: { rate: { messages: 20, seconds: 60 } },
            action: { sanction: { kind: "ban" } },
        },
        { name: "files", test: { attachments: { types: ["image/*"] } }, action: { report: true } },
        {
            name: "label",
            test: { classifier: { label: "hate", percent: 80 } },
            action: { sanction: { kind: "warning" } },
        },
    ];
    const draft = draftOf({ ...SET, rules });
    expect(problemOf(draft)).toBeUndefined();
    expect(requestOf(draft)).toEqual({ name: "Adverts", rules });
});

test("what is typed loosely is tidied: empty lines, spaces, and how long a warning holds", () => {
    const rule = {
        ...newRule(),
        name: " offers ",
        text: "\n offer \n\n buy now\n",
        terms: { kind: "warning", everywhere: false, seconds: "3600" } as const,
    };
    expect(requestOf({ name: " Adverts ", rules: [rule] })).toEqual({
        name: "Adverts",
        rules: [
            {
                name: "offers",
                test: { words: { words: ["offer", "buy now"] } },
                action: { report: true, sanction: { kind: "warning" } },
            },
        ],
    });
});

test("a draft that says nothing is refused before the messenger is asked", () => {
    const rule = { ...newRule(), name: "one", text: "word" };
    for (const [draft, what] of [
        [{ name: " ", rules: [rule] }, "nameMissing"],
        [{ name: "set", rules: [] }, "noRules"],
        [{ name: "set", rules: [{ ...rule, name: "" }] }, "ruleNameMissing"],
        [{ name: "set", rules: [rule, { ...rule, name: "one " }] }, "ruleNameTwice"],
        [{ name: "set", rules: [{ ...rule, text: " \n " }] }, "nothingToFind"],
        [{ name: "set", rules: [{ ...rule, text: "", test: "links" as const }] }, "nothingToFind"],
        [{ name: "set", rules: [{ ...rule, reports: false }] }, "nothingToDo"],
    ] as const) {
        expect(problemOf({ name: draft.name, rules: [...draft.rules] })?.what).toBe(what);
    }
});

test("the last day of a filter is whole, over a change of clocks too", () => {
    const fields = { action: "", side: "user", from: "2026-10-25", to: "2026-10-25" } as const;
    expect(auditFilter(fields, ANNA)).toEqual({
        action: "",
        user: ANNA,
        from_ms: new Date(2026, 9, 25).getTime(),
        to_ms: new Date(2026, 9, 26).getTime(),
    });
    expect(auditFilter({ ...fields, from: "", to: "" }, undefined)).toEqual({
        ...{ action: "", user: undefined, from_ms: undefined, to_ms: undefined },
    });
});

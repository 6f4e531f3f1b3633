// The console of moderators: no finding of axe on any of its screens. The story speaks for the moderation service, so that it needs no one whom a
// manifest names; who is let in, the stories of `tests/e2e` tell.
import { join } from "node:path";
import type { BrowserContext } from "@playwright/test";
import { Actor, expect, hasNoFindings, OUT, test, type PageConfig } from "./stand";

const id = (digit: number) => `${String(digit).repeat(8)}-1111-4111-8111-111111111111`;
const AT = 1_790_000_000_000;

const SET = {
    ...{ id: id(5), name: "Adverts", state: "draft", created_by: id(1), created_at_ms: AT },
    rules: [
        { name: "offers", test: { words: { words: ["offer"] } }, action: { report: true, delete: true } },
        {
            name: "floods",
            test: { rate: { messages: 20, seconds: 60 } },
            action: { sanction: { kind: "mute", seconds: 3_600 } },
        },
    ],
};
const FIGURES = {
    ...{ caught: 8, deletions: 8, reports: 8, sanctions: 1 },
    rules: [
        { rule: "floods", caught: 1 },
        { rule: "offers", caught: 7 },
    ],
};
const SANCTION = {
    ...{ id: id(6), user: id(2), kind: "mute", note: "adverts", by: id(1), created_at_ms: AT },
};

const ANSWERS: Record<string, unknown> = {
    own: { moderates: true, sanctions: [], appeals: [] },
    reports: {
        items: [
            {
                ...{ id: id(4), chat: id(3), seq: 7, sender: id(2), by: id(1), reason: "spam" },
                ...{ comment: "again", state: "open", created_at_ms: AT },
                evidence: { text: "a cheap offer", files: ["offer.pdf (application/pdf)"], sent_at_ms: AT },
            },
        ],
    },
    appeals: {
        items: [
            {
                ...{ id: id(7), sanction: SANCTION.id, user: id(2), text: "it was a joke" },
                ...{ state: "open", created_at_ms: AT },
            },
        ],
    },
    moderators: {
        items: [{ named: "mod", user: id(1) }, { named: `id:${id(2)}`, user: id(2) }, { named: "max" }],
    },
    sanctions: { items: [SANCTION] },
    "rule-sets": { items: [SET] },
    [`rule-sets/${SET.id}/figures`]: FIGURES,
    [`rule-sets/${SET.id}/shadow`]: {
        ...{ rule_set: SET.id, days: 7, state: "done", judged: 400, unjudged: 2 },
        ...{ started_at_ms: AT, finished_at_ms: AT, from_ms: AT - 86_400_000, figures: FIGURES },
        samples: [{ chat: id(3), rule: "offers", sender: id(2), sent_at_ms: AT, seq: 3, text: "an offer" }],
    },
    audit: {
        items: [
            { id: 2, at_ms: AT, action: "sanction_created", subject: SANCTION.id, by: id(1), user: id(2) },
            { id: 1, at_ms: AT, action: "rule_set_created", subject: SET.id, by: id(1) },
        ],
    },
    usage: {
        ...{ users: 1_200, open_reports: 1, open_appeals: 1, muted_users: 1, banned_users: 0 },
        ...{ enforced_rule_sets: 0, caught: 8 },
    },
    [`users/${id(2)}/sessions`]: {
        items: [{ session_id: "one", started_at_ms: AT, last_used_at_ms: AT }],
    },
};

const USERS = new Map(
    (["mod", "eve"] as const).map((username, at) => {
        const user_id = id(at + 1);
        return [user_id, { user_id, username, display_name: username, about: "" }] as const;
    }),
);

async function asModerator(context: BrowserContext): Promise<void> {
    // Before it is answered here: Node, which would ask for a route, resolves no names below `localhost`.
    const before = await context.newPage();
    const config = (await (await before.goto("/app/config.json"))!.json()) as PageConfig;
    await before.close();
    await context.route("**/app/config.json", (route) =>
        route.fulfill({ json: { ...config, services: [...config.services, "moderation"] } }),
    );
    await context.route("**/api/moderation/**", async (route) => {
        const what = new URL(route.request().url()).pathname.replace("/api/moderation/", "");
        const answer = ANSWERS[what];
        if (answer === undefined) throw new Error(`the story has no answer for ${what}`);
        await route.fulfill({ json: answer });
    });
    await context.route(
        (url) => url.pathname === "/api/users",
        (route) => route.fulfill({ json: { items: [...USERS.values()] } }),
    );
    await context.route(
        (url) => USERS.has(url.pathname.replace("/api/users/", "")),
        (route) =>
            route.fulfill({
                json: USERS.get(new URL(route.request().url()).pathname.replace("/api/users/", "")),
            }),
    );
}

const SCREENS = [
    ["queue", "Reports"],
    ["appeals", "Appeals"],
    ["users", "Users"],
    [`users?of=${id(2)}`, "eve"],
    ["roles", "Roles"],
    ["invitations", "Invitations"],
    ["rules", "Rules"],
    [`rules?of=${SET.id}`, "Adverts"],
    ["audit", "Audit log"],
    ["usage", "Usage"],
    ["exports", "Exports"],
] as const;

test("the console of moderators", async ({ browser }, { project }) => {
    // Eleven screens, each looked at twice.
    test.slow();
    const moderator = await Actor.register(browser, undefined, asModerator);
    const { page } = moderator;
    for (const [place, heading] of SCREENS) {
        await page.evaluate((place) => (location.hash = `#/admin/${place}`), place);
        await expect(page.getByRole("heading", { name: heading, level: 2 })).toBeVisible();
        await expect(page.locator("main [aria-busy=true]")).toHaveCount(0);
        for (const scheme of ["light", "dark"] as const) {
            await page.emulateMedia({ colorScheme: scheme, reducedMotion: "reduce" });
            await hasNoFindings(page);
            const name = place.split("?").join("-").replace(/of=.*/, "one");
            const path = join(OUT, "screens", `${project.name}-admin-${name}-${scheme}.png`);
            await page.screenshot({ path, fullPage: true });
        }
    }
    expect(moderator.errors).toEqual([]);
    await moderator.context.close();
});

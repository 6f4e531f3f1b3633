// A chat of 100,000 messages, read from its end to its beginning. They come through the API, into a tenant of their own whose limits let them.
import { addressOf, hasCluster, remove, setUp } from "./cluster";
import { held, percentile, report, rounded, type Figures, type Held } from "./figures";
import { scrollUp } from "./screen";
import { Actor, expect, newName, opened, PASSWORD, test } from "./stand";
import { Wire } from "./wire";

const TENANT = "stories";
const COUNT = Number(process.env["POSTHOUSE_MESSAGES"] ?? 100_000);
const LEGS = 10;
/** One connection may send 200 frames a second in the long run. */
const LINES = 10;
/** A page holds a thousand messages, however many were read. */
const MAX_HEAP_MB = 96;
/** What the last nine tenths of the way may add to it. */
const MAX_GROWTH_MB = 16;
const MAX_FRAME_MS = 50;

const much = { perSecond: 10_000, burst: 20_000 };
const muchBytes = { perSecond: 16 * 1024 * 1024, burst: 64 * 1024 * 1024 };

test.skip(!hasCluster, "`posthouse dev` has the limits of every messenger, so they would take half an hour");
// What is measured is not traced.
test.use({ baseURL: addressOf(TENANT), trace: "off", screenshot: "off" });

test.beforeAll(async () => {
    test.setTimeout(600_000);
    const sends = { userSends: much, chatSends: much, tenantSends: much, userQueries: much };
    const bytes = { userBytes: muchBytes, chatBytes: muchBytes, tenantBytes: muchBytes };
    await setUp(TENANT, {
        limits: { ...sends, ...bytes },
        routing: { rateLimit: { average: 10_000, burst: 20_000 } },
    });
});

test.afterAll(async () => {
    test.setTimeout(600_000);
    await remove(TENANT);
});

test("a chat of 100,000 messages is read from its end to its beginning", async ({ browser, page }) => {
    test.setTimeout(1_500_000);
    await opened(page);
    const anna = await Actor.register(browser);
    const wire = await Wire.open(browser, PASSWORD);
    const boris = newName();
    await wire.register(boris);
    const chat = await wire.directChat({ username: boris, other: anna.name });
    // What comes meanwhile is not shown to her: she opens a chat that is there.
    await anna.page.goto("about:blank");
    const job = { username: boris, chat, text: "message", digits: 6, filler: 16, count: COUNT };
    const posted = await wire.post({ ...job, lines: LINES, inFlight: 48 });
    await wire.close();
    await report("timeline-fill", "How the messages came", [
        {
            messages: COUNT,
            "all taken, s": rounded(posted.takenSeconds, 1),
            "all stored, s": rounded(posted.storedSeconds, 1),
            "stored a second": rounded(COUNT / posted.storedSeconds),
        },
    ]);
    expect(posted.lastSeq - posted.firstSeq).toBe(COUNT - 1);

    await anna.page.goto("/");
    const nav = anna.page.getByRole("navigation", { name: "Chats" });
    await nav.getByRole("link", { name: new RegExp(boris) }).click();
    const newest = anna.messages.locator(`[aria-posinset="${posted.lastSeq}"]`);
    await expect(newest).toBeVisible();

    const session = await anna.context.newCDPSession(anna.page);
    for (const domain of ["Performance", "HeapProfiler"] as const) await session.send(`${domain}.enable`);
    const begin = await held(session);
    const table: Figures[] = [{ way: "the end", messages: 0, seconds: 0, ...frames([]), ...begin }];
    const [all, holds]: [number[], Held[]] = [[], []];
    // Some are shown on two legs.
    const shown = new Set<number>();
    for (let leg = 1; leg <= LEGS; leg += 1) {
        const until = posted.firstSeq + Math.round((COUNT * (LEGS - leg)) / LEGS);
        const way = { until, isFirst: leg === LEGS, keepsRows: false };
        const scrolled = await scrollUp(anna.page, way);
        expect(scrolled.faults).toEqual([]);
        const after = await held(session);
        holds.push(after);
        const before = shown.size;
        for (const [from, to] of scrolled.shown) for (let seq = from; seq <= to; seq += 1) shown.add(seq);
        for (const ms of scrolled.framesMs) all.push(ms);
        table.push({
            way: `to message ${until}`,
            messages: shown.size - before,
            seconds: rounded(scrolled.seconds, 1),
            ...frames(scrolled.framesMs),
            ...after,
        });
    }
    const seconds = table.reduce((sum, row) => sum + Number(row["seconds"]), 0);
    table.push({
        way: "all of it",
        messages: shown.size,
        seconds: rounded(seconds, 1),
        ...frames(all),
        ...holds.at(-1)!,
    });
    await report("timeline", `${COUNT} messages from end to start, 0.8 of the screen with each frame`, table);

    await anna.page.getByRole("button", { name: "To the newest messages" }).click();
    await expect(newest).toBeVisible();
    expect(percentile(all, 0.95)).toBeLessThanOrEqual(MAX_FRAME_MS);
    const heaps = holds.map(({ heapMb }) => heapMb);
    expect(Math.max(...heaps)).toBeLessThanOrEqual(MAX_HEAP_MB);
    expect(heaps.at(-1)! - heaps[0]!).toBeLessThanOrEqual(MAX_GROWTH_MB);
    // A frame that took long moved past some.
    expect(shown.size).toBeGreaterThanOrEqual(0.99 * COUNT);
    expect(anna.errors).toEqual([]);
    await anna.context.close();
});

/** What frames took in which the list moved. */
function frames(framesMs: readonly number[]): Figures {
    if (framesMs.length === 0)
        return { frames: 0, "p50, ms": "", "p95, ms": "", "p99, ms": "", "most, ms": "" };
    return {
        frames: framesMs.length,
        "p50, ms": rounded(percentile(framesMs, 0.5), 1),
        "p95, ms": rounded(percentile(framesMs, 0.95), 1),
        "p99, ms": rounded(percentile(framesMs, 0.99), 1),
        "most, ms": rounded(percentile(framesMs, 1), 1),
    };
}

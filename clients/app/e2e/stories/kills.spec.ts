// Two users talk while the gateways below their connections are killed. They are of a tenant with two, so that users have another one to go to.
import { addressOf, gateways, hasCluster, kill, remove, setUp } from "./cluster";
import { percentile, report, rounded } from "./figures";
import { readUp, watch, type Row, type Seen } from "./screen";
import { Actor, every, expect, opened, PASSWORD, test } from "./stand";
import { Wire, type Stored } from "./wire";

const TENANT = "storieskills";
const GATEWAYS = 2;
const FOR_MS = 120_000;
const KILL_EVERY_MS = 10_000;
/** A user writes this often. */
const WRITE_EVERY_MS = 700;
/** Until another gateway is there for the one that was killed. */
const REPLACED_MS = 60_000;
/** From the last kill until all is well: a client that was cut off twelve times waits half a minute at most before it tries again. */
const SETTLED_MS = 90_000;
/** Meanwhile the chat is read this often. */
const LOOK_EVERY_MS = 2_000;

test.skip(!hasCluster, "`posthouse dev` has no gateways to kill");
// Frames are looked at, and a trace takes some.
test.use({ baseURL: addressOf(TENANT), trace: "off" });

test.beforeAll(async () => {
    test.setTimeout(600_000);
    await setUp(TENANT, { services: { gateway: { replicas: GATEWAYS } } });
});

test.afterAll(async () => {
    test.setTimeout(600_000);
    await remove(TENANT);
});

test("gateways are killed under two users who talk", async ({ browser, page }) => {
    test.setTimeout(480_000);
    await opened(page);
    await page.close();
    const [anna, boris] = [await Actor.register(browser), await Actor.register(browser)];
    const cuts = [anna, boris].map((actor) => countCuts(actor));
    await anna.writeTo(boris);
    await anna.say("before the first kill");
    await boris.open(anna);
    await expect(boris.message("before the first kill")).toBeVisible();
    const looks = [await watch(anna.page), await watch(boris.page)];

    const untilMs = Date.now() + FOR_MS;
    const killed: string[] = [];
    const [fromAnna, fromBoris] = await Promise.all([
        talk(anna, "anna", untilMs),
        talk(boris, "boris", untilMs),
        // The oldest one: that is where those went whose gateway was killed the last time.
        every(KILL_EVERY_MS, untilMs, async () => {
            await expect.poll(() => gateways(TENANT), { timeout: REPLACED_MS }).toHaveLength(GATEWAYS);
            const [oldest] = await gateways(TENANT);
            await kill(TENANT, oldest!);
            killed.push(oldest!);
        }),
    ]);

    for (const actor of [anna, boris])
        await expect(actor.page.getByText("No connection.")).toHaveCount(0, { timeout: SETTLED_MS });
    const wire = await Wire.open(browser, PASSWORD);
    const chat = /chat\/([0-9a-f-]{36})/.exec(anna.page.url())![1]!;
    const texts = async () =>
        (await wire.history({ username: anna.name, chat })).filter(({ kind }) => kind === "text");
    const lasts = [fromAnna.at(-1)!, fromBoris.at(-1)!];
    await expect
        .poll(async () => (await texts()).map(({ body }) => body), {
            intervals: [LOOK_EVERY_MS],
            timeout: SETTLED_MS,
        })
        .toEqual(expect.arrayContaining(lasts));
    const stored = await texts();
    // That of the one who was cut off for longer at the end: the other's last message may be above what is on the screens.
    const last = stored.at(-1)!.body;
    for (const actor of [anna, boris]) {
        await expect(actor.message(last)).toBeVisible({ timeout: SETTLED_MS });
        await expect(actor.messages.getByText("Waiting to be sent")).toHaveCount(0);
        await expect(actor.messages.getByText("Taken by the messenger")).toHaveCount(0);
    }
    // Both are looked at, so all was read.
    const writer = last === lasts[0] ? anna : boris;
    await expect(writer.message(last).getByText("Read", { exact: true })).toBeAttached();
    const seen: Seen[] = [];
    for (const end of looks) seen.push(await end());
    const screens: Row[][] = [];
    for (const { page } of [anna, boris]) screens.push(await readUp(page, stored[0]!.seq));

    const waits = seen.flatMap(({ waitsMs }) => waitsMs);
    await report("kills", `Gateways killed every ${KILL_EVERY_MS / 1_000} s for ${FOR_MS / 1_000} s`, [
        {
            kills: killed.length,
            "connections cut": cuts.map((count) => count()).join(" and "),
            messages: fromAnna.length + fromBoris.length,
            "on both screens": screens.map((rows) => rows.length).join(" and "),
            "frames looked at": seen.reduce((sum, { frames }) => sum + frames, 0),
            faults: seen.reduce((sum, { faults }) => sum + faults.length, 0),
            "written to sent p50, ms": rounded(percentile(waits, 0.5)),
            "p95, ms": rounded(percentile(waits, 0.95)),
            "most, ms": rounded(percentile(waits, 1)),
        },
    ]);

    expect(killed.length).toBeGreaterThanOrEqual(6);
    for (const count of cuts) expect(count()).toBeGreaterThanOrEqual(3);
    // Nothing is lost or doubled, and the messages of each are in the order in which they were written.
    const written = (name: string) => stored.map(({ body }) => body).filter((body) => body.startsWith(name));
    expect(written("anna ")).toEqual(fromAnna);
    expect(written("boris ")).toEqual(fromBoris);
    for (const rows of screens) {
        expect(rows.map(({ seq, text }) => `${seq} ${text}`)).toEqual(stored.map(asShown));
        // An own message has a state, and each was read.
        expect(rows.flatMap(({ state }) => state ?? []).filter((state) => state !== "read")).toEqual([]);
    }
    // At no moment did a screen show anything else.
    const seqs = new Map(stored.map(({ seq, body }) => [body, seq]));
    for (const { faults, ticked } of seen) {
        expect(faults).toEqual([]);
        for (const [text, seq] of Object.entries(ticked)) expect(seq, text).toBe(seqs.get(text));
    }
    expect([...anna.faults, ...boris.faults]).toEqual([]);
    for (const { context } of [wire, anna, boris]) await context.close();
});

function asShown({ seq, body }: Stored): string {
    return `${seq} ${body}`;
}

/** Writes one message after the other, with or without a connection. Returns the texts. */
async function talk({ composer }: Actor, name: string, untilMs: number): Promise<string[]> {
    const texts: string[] = [];
    await every(WRITE_EVERY_MS, untilMs, async (count) => {
        const text = `${name} ${String(count).padStart(3, "0")}`;
        await composer.fill(text);
        await composer.press("Enter");
        texts.push(text);
    });
    return texts;
}

/** Counts from now on how often the connection of a page ends. */
function countCuts({ page }: Actor): () => number {
    let cuts = 0;
    page.on("websocket", (socket) => {
        let isOpen = false;
        socket.on("framereceived", () => (isOpen = true));
        socket.on("close", () => (cuts += isOpen ? 1 : 0));
    });
    return () => cuts;
}

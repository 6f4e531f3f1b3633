// Two new users in two browsers, from the address to a closed lid, in one film.
import { join } from "node:path";
import { report } from "./figures";
import { Recording } from "./recording";
import { readUp, type Row } from "./screen";
import { Actor, configOf, expect, newName, OUT, PASSWORD, test } from "./stand";
import { Wire, type Stored } from "./wire";

/** How long the lid stays closed, and what arrives meanwhile. */
const CLOSED_MS = 60_000;
const ARRIVING = 200;
const LAST = `letter ${ARRIVING}`;
/** Less than that is no film of two minutes. */
const MIN_FILM_BYTES = 100_000;

// The film is what there is to look at.
test.use({ trace: "off" });

test("two new users talk, and one of them closes the lid", async ({ browser, laptop }) => {
    test.setTimeout(360_000);
    const beganMs = Date.now();
    const film = await Recording.begin(browser, 2);
    await film.say("Two new users register, each in a browser of their own");
    const anna = await Actor.register(browser, newName(), async (context) => film.film(0, context));
    const boris = await Actor.register(laptop.browser, newName(), async (context) => film.film(1, context));
    const { services } = await configOf(anna.page);
    test.skip(!services.includes("media"), "the tenant has no media service");
    test.skip(!services.includes("search"), "the tenant has no search service");

    await film.say("They talk");
    await anna.writeTo(boris);
    await anna.say("Shall we meet at the **harbour**?", "Shall we meet at the harbour?");
    await boris.open(anna);
    await boris.say("Which one? There are two");
    await expect(anna.message("Which one?")).toBeVisible();

    await film.say("A picture");
    const [file] = await Promise.all([anna.page.waitForEvent("filechooser"), attach(anna)]);
    await file.setFiles({ name: "map.png", mimeType: "image/png", buffer: await drawing(anna) });
    await expect(anna.page.getByRole("list", { name: "Files to send" })).toContainText("map.png");
    await expect(anna.page.getByRole("main").getByRole("button", { name: "Send", exact: true })).toBeEnabled();
    await anna.say("The old one, here");
    await expect(boris.messages.getByRole("img", { name: "map.png" })).toBeVisible();

    await film.say("An edit");
    await anna.act("meet at the harbour", "Edit");
    await anna.composer.fill("Shall we meet at the old harbour?");
    await anna.composer.press("Enter");
    await expect(boris.message("meet at the old harbour").getByText("edited")).toBeVisible();

    await film.say("A reaction");
    await boris.act("meet at the old harbour", "React");
    await boris.page.getByRole("menuitem", { name: "👍" }).click();
    await expect(
        anna.message("meet at the old harbour").getByRole("button", { name: /👍, 1 user/ }),
    ).toBeVisible();

    await film.say("A thread");
    await boris.act("meet at the old harbour", "Open the thread");
    await answer(boris, "At which hour?");
    await anna.message("meet at the old harbour").getByRole("button", { name: "1 reply" }).click();
    await answer(anna, "At six, by the lighthouse");
    await expect(threadOf(boris).getByText("At six, by the lighthouse")).toBeVisible();
    await expect(threadOf(boris).getByRole("button", { name: "2 replies" })).toBeVisible();
    for (const { page } of [anna, boris])
        await page
            .getByRole("complementary", { name: "Thread" })
            .getByRole("button", { name: "Close", exact: true })
            .click();

    await film.say("A search, and the way to what it finds");
    await find(boris, "lighthouse", "At six, by the lighthouse");

    await film.say(
        `Boris closes the lid for a minute. ${ARRIVING} messages arrive, from another device of Anna's`,
    );
    const chat = /chat\/([0-9a-f-]{36})/.exec(boris.page.url())![1]!;
    const wire = await Wire.open(browser, PASSWORD);
    await boris.context.setOffline(true);
    laptop.cable.cut();
    const closedMs = Date.now();
    await boris.composer.fill("from the tunnel");
    await boris.composer.press("Enter");
    await expect(boris.message("from the tunnel").getByText("Waiting to be sent")).toBeAttached();
    const everyMs = CLOSED_MS / ARRIVING;
    await wire.post({ username: anna.name, chat, text: "letter", digits: 3, count: ARRIVING, everyMs });
    await anna.toEnd(LAST);
    await expect(boris.messages.getByText("letter")).toHaveCount(0);
    const openedMs = Date.now();

    await film.say("Boris opens the lid");
    laptop.cable.mend();
    await boris.context.setOffline(false);
    await boris.page.bringToFront();
    await boris.toEnd(LAST);
    await expect(boris.message("from the tunnel").getByText(/^(Sent|Delivered|Read)$/)).toBeAttached();
    await expect(boris.page.getByText("No connection.")).toHaveCount(0);
    const backMs = Date.now();
    await expect(anna.message("from the tunnel")).toHaveCount(1);

    await film.say("Everything is there, in order, once");
    const stored = await wire.history({ username: anna.name, chat });
    for (const actor of [anna, boris]) {
        await actor.toEnd(LAST);
        const rows = await readUp(actor.page, stored.find(isText)!.seq);
        isAsStored(rows, stored);
    }
    const bytes = await film.end(join(OUT, "films", "new-user.webm"));
    await report("new-user", "A new user's walk, in two browsers", [
        {
            "lid closed, s": ((openedMs - closedMs) / 1_000).toFixed(1),
            "messages meanwhile": ARRIVING,
            "until all is there, ms": backMs - openedMs,
            "entries on both screens": stored.filter(isText).length,
            "whole walk, s": Math.round((Date.now() - beganMs) / 1_000),
            "film, bytes": bytes,
        },
    ]);
    expect(openedMs - closedMs).toBeGreaterThanOrEqual(CLOSED_MS);
    expect(bytes).toBeGreaterThan(MIN_FILM_BYTES);
    expect([...anna.faults, ...boris.faults]).toEqual([]);
    for (const { context } of [wire, anna, boris]) await context.close();
});

function isText({ kind }: Stored): boolean {
    return kind === "text";
}

/** What is shown is what is stored: each message once, in the order of its number, and the letters in that in which they were written. */
function isAsStored(rows: readonly Row[], stored: readonly Stored[]): void {
    const texts = stored.filter(isText);
    expect(rows.map(({ seq }) => seq)).toEqual(texts.map(({ seq }) => seq));
    const letters = rows.map(({ text }) => text).filter((text) => text.startsWith("letter "));
    const written = Array.from({ length: ARRIVING }, (_, at) => `letter ${String(at + 1).padStart(3, "0")}`);
    expect(letters).toEqual(written);
    expect(rows.filter(({ text }) => text === "from the tunnel")).toHaveLength(1);
    expect(texts.filter(({ body }) => body === "from the tunnel")).toHaveLength(1);
}

function attach({ page }: Actor): Promise<void> {
    return page.getByRole("button", { name: "Attach files" }).click();
}

/** A map: some lines on paper. */
async function drawing({ context }: Actor): Promise<Buffer> {
    const easel = await context.browser()!.newPage();
    await easel.setContent(`
        <svg xmlns="http://www.w3.org/2000/svg" width="320" height="200">
            <rect width="320" height="200" fill="#f3e6c4"/>
            <path d="M0 120Q80 90 160 130T320 110V200H0Z" fill="#8fb8c9"/>
            <path d="M40 60H140V110M220 40L180 120" stroke="#8a5a3c" stroke-width="5" fill="none"/>
            <circle cx="180" cy="122" r="9" fill="#c0392b"/>
        </svg>`);
    const picture = await easel.locator("svg").screenshot();
    await easel.close();
    return picture;
}

function threadOf({ page }: Actor) {
    return page.getByRole("complementary", { name: "Thread" });
}

async function answer(actor: Actor, text: string): Promise<void> {
    const field = threadOf(actor).getByRole("textbox", { name: "Reply in the thread" });
    await field.fill(text);
    await field.press("Enter");
    await expect(threadOf(actor).getByText(text)).toBeVisible();
}

/** Searches until the index has it, and goes there. */
async function find(actor: Actor, words: string, text: string): Promise<void> {
    const { page } = actor;
    await page.getByRole("button", { name: "Search", exact: true }).click();
    const dialog = page.getByRole("dialog", { name: "Search" });
    await dialog.getByLabel("Search in messages, chats and users").fill(words);
    const found = dialog.getByRole("link", { name: text });
    await expect(async () => {
        await dialog.getByRole("button", { name: "Search", exact: true }).click();
        await expect(found).toBeVisible({ timeout: 2_000 });
    }).toPass({ timeout: 30_000 });
    await found.click();
    await expect(dialog).toHaveCount(0);
    await expect(actor.message(text)).toBeInViewport();
}

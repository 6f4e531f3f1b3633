// The picture of the README: two users talk as in `make demo`. It is written to docs where POSTHOUSE_PORTRAIT is set, and to the artifacts otherwise.
import { mkdir, stat, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Page } from "@playwright/test";
import { configOf, expect, OUT, test, type Actor } from "./stand";

const DOCS = fileURLToPath(new URL("../../../../docs/images/messenger.png", import.meta.url));
const PORTRAIT = process.env["POSTHOUSE_PORTRAIT"] ? DOCS : join(OUT, "screens", "portrait.png");
/** Every clone of the repository has it. */
const MAX_BYTES = 150_000;

const GROUP = "Stable yard";
const ASKED = "Every message has a number, did you notice?";
const WONDERED = "And no one from the tenant next door reads along?";
const SHOWN = "The next desk. Our own log, our own store, I am told.";
const ASSURED = "They have their own realm, their own topics, their own keyspace.";

/** A yard in the evening. Few and plain colours, at the size at which they are shown, keep the picture small. */
const YARD = `
    <svg xmlns="http://www.w3.org/2000/svg" width="360" height="122" viewBox="0 84 640 216">
        <rect y="84" width="640" height="216" rx="12" fill="#f7c98b"/>
        <circle cx="470" cy="150" r="46" fill="#fff0c9"/>
        <path d="M0 190 120 120 230 180 350 110 480 185 570 140 640 175V320H0Z" fill="#c98a6b"/>
        <path d="M0 220Q160 180 320 215T640 205V320H0Z" fill="#8f6a55"/>
        <path d="M0 262Q220 238 640 258V320H0Z" fill="#6b7a4b"/>
        <path d="M400 320Q430 280 380 262T420 222L436 222Q400 244 420 262T500 320Z" fill="#e3c79b"/>
        <path d="M70 170 165 108 260 170Z" fill="#5b2f2a"/>
        <rect x="86" y="168" width="158" height="98" fill="#8c4a3c"/>
        <path d="M140 266V216A25 25 0 0 1 190 216V266Z" fill="#3a2420"/>
        <g fill="#ffe1a1"><rect x="102" y="190" width="22" height="22"/><rect x="206" y="190" width="22" height="22"/></g>
        <g stroke="#4a3328" stroke-width="6"><path d="M262 246H372M262 264H372"/><path d="M270 234V278M317 234V278M364 234V278"/></g>
        <path d="M520 262V226Q520 214 532 214H572L586 192 596 196 592 204 604 214 598 222 588 220 582 236V262H574V240H534V262Z" fill="#3a2420"/>
    </svg>`;

test.use({ viewport: { width: 1280, height: 800 }, colorScheme: "light", locale: "en-GB" });

test("two users of a tenant have their picture taken", async ({ actors }) => {
    const [wanda, noor] = await actors(2);
    const { services } = await configOf(wanda!.page);
    test.skip(!services.includes("media"), "the tenant has no media service");
    await call(wanda!, "Wanda");
    await call(noor!, "Noor");

    await noor!.writeTo(wanda!);
    await noor!.say("Tea at four?");
    await found(noor!, wanda!, "Northern road");
    await noor!.say("The bridge is open again");

    await found(wanda!, noor!, GROUP);
    await wanda!.say("Hello! Is this thing on?");
    await noor!.page.getByRole("navigation", { name: "Chats" }).getByRole("link", { name: GROUP }).click();
    await noor!.say("Loud and clear. Where are you writing from?");
    await sees(wanda!, "Loud and clear");
    await wanda!.say(ASKED);
    await sees(noor!, ASKED);
    // An answer quotes what it answers: from then on two messages have its text.
    for (const actor of [wanda!, noor!]) await actor.act(ASKED, "Open the thread");
    await answer(noor!, wanda!, "One, two, three, gapless. Even when a horse falls.");
    await answer(wanda!, noor!, "Then the courier just changes horses.");
    await answer(noor!, wanda!, "That is what a posthouse is for.");

    await wanda!.say("From a pod, by the look of it. You?");
    await sees(noor!, "From a pod");
    await show(noor!, SHOWN);
    await react(wanda!, SHOWN, "🎉");
    await wanda!.say(WONDERED.replace("reads along", "listens"));
    await wanda!.act("listens", "Edit");
    await wanda!.composer.fill(WONDERED);
    await wanda!.send();
    await expect(noor!.message(WONDERED).getByText("edited")).toBeVisible();
    await react(noor!, WONDERED, "👀");
    await noor!.say(ASSURED);
    await sees(wanda!, ASSURED);

    const { page } = wanda!;
    const thread = page.getByRole("complementary", { name: "Thread" });
    await expect(thread.getByRole("button", { name: "3 replies" })).toBeVisible();
    await thread.locator("#thread-composer").fill("See you on the road.");
    const read = page.getByRole("navigation", { name: "Chats" }).getByRole("link", { name: GROUP });
    await expect(read.getByText("unread")).toHaveCount(0);
    await take(page);
});

/** Gives a user a display name. */
async function call({ page }: Actor, name: string): Promise<void> {
    await page.getByRole("button", { name: "Settings", exact: true }).click();
    await page.getByLabel("Display name").fill(name);
    await page.getByRole("button", { name: "Save", exact: true }).first().click();
    await expect(page.getByText("Saved", { exact: true })).toBeVisible();
    await page.keyboard.press("Escape");
    await expect(page.getByRole("dialog")).toHaveCount(0);
}

async function found(actor: Actor, other: Actor, title: string): Promise<void> {
    await actor.beginWith(other);
    await actor.page.getByLabel("Title of the group").fill(title);
    await actor.page.getByRole("button", { name: "Create the group" }).click();
    await expect(actor.page.getByRole("heading", { name: title })).toBeVisible();
}

/** Sends the yard with a text. */
async function show(actor: Actor, text: string): Promise<void> {
    const easel = await actor.context.newPage();
    await easel.setContent(YARD);
    const buffer = await easel.locator("svg").screenshot({ omitBackground: true });
    await easel.close();
    await actor.page
        .locator('input[type="file"]')
        .setInputFiles({ name: "yard.png", mimeType: "image/png", buffer });
    await expect(actor.page.getByRole("list", { name: "Files to send" })).toContainText("yard.png");
    await expect(actor.page.getByRole("main").getByRole("button", { name: "Send", exact: true })).toBeEnabled();
    await actor.say(text);
    await expect(actor.messages.getByRole("img", { name: "yard.png" })).toBeVisible();
}

async function react(actor: Actor, text: string, emoji: string): Promise<void> {
    await actor.act(text, "React");
    await actor.page.getByRole("menuitem", { name: emoji }).click();
    await expect(actor.message(text).getByRole("button", { name: `${emoji}, 1 user` })).toBeVisible();
}

/** Awaited before an answer: one that is sent too early stands before what it answers. */
async function sees(actor: Actor, text: string): Promise<void> {
    await expect(actor.message(text).first()).toBeVisible();
}

/** Answers in the thread that is open, and stays so. */
async function answer(from: Actor, to: Actor, text: string): Promise<void> {
    const field = from.page.locator("#thread-composer");
    await field.fill(text);
    await field.press("Enter");
    await sees(to, text);
}

/** Nothing is pointed at, and all that is on its way is there. */
async function take(page: Page): Promise<void> {
    await page.mouse.move(0, 0);
    await expect(page.locator('[aria-busy="true"], [data-sending]')).toHaveCount(0);
    await page.evaluate(() => Promise.all([...document.images].map((image) => image.decode())));
    const picture = await page.screenshot({ animations: "disabled" });
    await mkdir(dirname(PORTRAIT), { recursive: true });
    await writeFile(PORTRAIT, picture);
    expect((await stat(PORTRAIT)).size).toBeLessThanOrEqual(MAX_BYTES);
}

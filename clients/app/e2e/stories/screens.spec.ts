// Every screen: no finding of axe, in both themes and from right to left, and a picture of each as an artifact.
import { join } from "node:path";
import { AxeBuilder } from "@axe-core/playwright";
import type { Page } from "@playwright/test";
import { configOf, expect, hasNoFindings, OUT, test } from "./stand";

const LOOKS = ["light", "dark", "rtl"] as const;

async function look(page: Page, look: (typeof LOOKS)[number]): Promise<void> {
    await page.emulateMedia({ colorScheme: look === "dark" ? "dark" : "light", reducedMotion: "reduce" });
    await page.evaluate((dir) => (document.documentElement.dir = dir), look === "rtl" ? "rtl" : "ltr");
}

/** Looks at a screen in each way. */
async function picture(page: Page, name: string): Promise<void> {
    for (const as of LOOKS) {
        await look(page, as);
        await hasNoFindings(page);
        await page.screenshot({ path: join(OUT, "screens", `${test.info().project.name}-${name}-${as}.png`) });
    }
    await look(page, "light");
}

test("the sign-in", async ({ page }) => {
    await page.goto("/");
    await expect(page.getByRole("button", { name: "Create an account" })).toBeVisible();
    await picture(page, "sign-in");
    await page.getByRole("button", { name: "Create an account" }).click();
    await expect(page.getByLabel("New password")).toBeVisible();
    await picture(page, "register");
});

test("the page of the realm, whose colours are the tenant's", async ({ page }, { project }) => {
    await page.goto("/");
    const { name, realm } = await configOf(page);
    test.skip(realm === undefined, "`posthouse dev` has none");
    await page.getByRole("button", { name: "Sign in", exact: true }).click();
    await expect(page.locator("#kc-login")).toBeVisible();
    await expect(page.locator("#kc-header")).toHaveText(name);
    for (const as of LOOKS) {
        await look(page, as);
        // The rest of the page is Keycloak's.
        const { violations } = await new AxeBuilder({ page }).withRules(["color-contrast"]).analyze();
        expect(violations).toEqual([]);
        await page.screenshot({ path: join(OUT, "screens", `${project.name}-realm-${as}.png`) });
    }
    await page.getByRole("link", { name: `Go back to ${name}` }).click();
    await expect(page.getByRole("button", { name: "Create an account" })).toBeVisible();
});

/** Texts, and how each reads. */
const TEXTS = [
    ["Hello"],
    ["Привет, как дела?"],
    ["مرحبا"],
    ["`code` and *more*", "code and more"],
    ["https://posthouse.example/a/long/address"],
] as const;

/** Panels, and what is there once all of one is. */
const PANELS = [
    ["search", "Search in messages, chats and users"],
    ["new", "Find users"],
    ["settings", "Delete the account…"],
    ["notifications", "Show the text of messages"],
    ["about", "Leave the chat"],
    ["pins", "Nothing is pinned here."],
    ["scheduled", "Nothing is scheduled here."],
    ["contacts", "You have no contacts yet."],
] as const;

test("the messenger", async ({ actors }) => {
    // Twelve screens, each looked at three times.
    test.slow();
    const [anna, boris] = await actors(2);
    const { page } = anna!;
    await picture(page, "empty");
    await anna!.writeTo(boris!);
    for (const [text, shown] of TEXTS) await anna!.say(text, shown);
    await picture(page, "chat");
    for (const menu of ["React", "More"]) {
        await anna!.act("code and more", menu);
        await expect(page.getByRole("menu", { name: menu })).toBeVisible();
        await picture(page, menu.toLowerCase());
        await page.keyboard.press("Escape");
        await expect(page.getByRole("menu")).toHaveCount(0);
    }
    await anna!.act("Hello", "Open the thread");
    await expect(page.getByRole("complementary", { name: "Thread" })).toBeVisible();
    await picture(page, "thread");
    for (const [name, shown] of PANELS) {
        await panel(page, name, shown);
        await picture(page, name);
    }
});

/** Opens a panel by its address: a phone has the buttons on another screen. */
async function panel(page: Page, name: string, shown: string): Promise<void> {
    await page.evaluate((panel) => (location.hash = `${location.hash.split("?")[0]}?panel=${panel}`), name);
    const dialog = page.getByRole("dialog");
    await expect(dialog.getByText(shown).first()).toBeVisible();
    await expect(dialog.locator("[aria-busy=true]")).toHaveCount(0);
}

test("a group, its members and its links", async ({ actors }) => {
    test.slow();
    const [anna, boris] = await actors(2);
    const { page } = anna!;
    await anna!.beginWith(boris!);
    await page.getByLabel("Title of the group").fill("Harbour watch");
    await page.getByRole("button", { name: "Create the group" }).click();
    await anna!.say("Who has the key?");
    await anna!.act("Who has the key?", "More");
    await page.getByRole("menuitem", { name: "Pin", exact: true }).click();
    await expect(page.getByRole("region", { name: "Pinned messages" })).toBeVisible();
    await boris!.page
        .getByRole("navigation", { name: "Chats" })
        .getByRole("link", { name: /Harbour watch/ })
        .click();
    await boris!.say("I have it");
    await expect(anna!.message("I have it")).toBeVisible();
    await picture(page, "group");
    for (const [name, shown] of [
        ["about", "Leave the chat"],
        ["members", "Leave the chat"],
        ["invites", "There is none."],
        ["pins", "Who has the key?"],
    ] as const) {
        await panel(page, name, shown);
        await picture(page, `group-${name}`);
    }
    // A link lets a third user in, who has nothing but its address.
    await panel(page, "invites", "There is none.");
    await page.getByRole("button", { name: "Make a link" }).click();
    const link = await page.locator("code.address").textContent();
    const [vera] = (await actors(1)).slice(-1);
    await vera!.page.evaluate((hash) => (location.hash = hash), new URL(link!).hash);
    await vera!.page.getByRole("button", { name: "Join", exact: true }).click();
    await expect(vera!.page.getByRole("heading", { name: "Harbour watch" })).toBeVisible();
});

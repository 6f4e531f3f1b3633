// Every screen: no finding of axe, in both themes and from right to left, and a picture of each as an artifact.
import { join } from "node:path";
import { AxeBuilder } from "@axe-core/playwright";
import type { Page } from "@playwright/test";
import { Actor, expect, test } from "./stand";

const OUT = process.env["POSTHOUSE_OUT"] ?? "results";

const LOOKS = ["light", "dark", "rtl"] as const;

async function look(page: Page, look: (typeof LOOKS)[number]): Promise<void> {
    await page.emulateMedia({ colorScheme: look === "dark" ? "dark" : "light", reducedMotion: "reduce" });
    await page.evaluate((dir) => (document.documentElement.dir = dir), look === "rtl" ? "rtl" : "ltr");
}

test("the sign-in", async ({ page, browser }, { project }) => {
    await page.goto("/");
    await expect(page.getByRole("button", { name: "Create an account" })).toBeVisible();
    for (const as of LOOKS) {
        await look(page, as);
        await page.screenshot({ path: join(OUT, "screens", `${project.name}-sign-in-${as}.png`) });
    }
    const actor = await Actor.register(browser);
    await actor.context.close();
});

test("the page of the realm, whose colours are the tenant's", async ({ page }, { project }) => {
    await page.goto("/");
    const config = (await (await page.request.get("/app/config.json")).json()) as {
        name: string;
        realm?: string;
    };
    // `posthouse dev` has none.
    if (config.realm === undefined) return;
    await page.getByRole("button", { name: "Sign in", exact: true }).click();
    await expect(page.locator("#kc-login")).toBeVisible();
    await expect(page.locator("#kc-header")).toHaveText(config.name);
    for (const as of LOOKS) {
        await look(page, as);
        // The rest of the page is Keycloak's.
        const { violations } = await new AxeBuilder({ page }).withRules(["color-contrast"]).analyze();
        expect(violations).toEqual([]);
        await page.screenshot({ path: join(OUT, "screens", `${project.name}-realm-${as}.png`) });
    }
    await page.getByRole("link", { name: `Go back to ${config.name}` }).click();
    await expect(page.getByRole("button", { name: "Create an account" })).toBeVisible();
});

test("the messenger", async ({ actors }, { project }) => {
    const [anna, boris] = await actors(2);
    await anna!.writeTo(boris!);
    for (const text of [
        "Hello",
        "Привет, как дела?",
        "مرحبا",
        "`code` and *more*",
        "https://posthouse.example/a/long/address",
    ])
        await anna!.say(text);
    for (const [name, open] of [
        ["chat", () => Promise.resolve()],
        ["thread", () => openThread(anna!)],
        ["search", () => panel(anna!.page, "search")],
        ["new", () => panel(anna!.page, "new")],
        ["settings", () => panel(anna!.page, "settings")],
        ["notifications", () => panel(anna!.page, "notifications")],
        ["about", () => panel(anna!.page, "about")],
        ["pins", () => panel(anna!.page, "pins")],
        ["scheduled", () => panel(anna!.page, "scheduled")],
        ["contacts", () => panel(anna!.page, "contacts")],
    ] as const) {
        await open();
        for (const as of LOOKS) {
            await look(anna!.page, as);
            await anna!.hasNoFindings();
            await anna!.page.screenshot({ path: join(OUT, "screens", `${project.name}-${name}-${as}.png`) });
        }
    }
});

/** A phone has the buttons on another screen: the address leads there as well. */
async function panel(page: Page, name: string): Promise<void> {
    await page.evaluate((panel) => (location.hash = `${location.hash.split("?")[0]}?panel=${panel}`), name);
    await expect(page.getByRole("dialog")).toBeVisible();
}

async function openThread(actor: Actor): Promise<void> {
    await actor.message("Hello").focus();
    await actor.message("Hello").getByRole("button", { name: "Open the thread" }).click();
    await expect(actor.page.getByRole("complementary", { name: "Thread" })).toBeVisible();
}

test("a group, its members and its links", async ({ actors }, { project }) => {
    const [anna, boris] = await actors(2);
    await anna!.page.getByRole("button", { name: "New chat" }).click();
    await anna!.page.getByLabel("Find users").fill(boris!.name);
    await anna!.page.getByRole("button", { name: `@${boris!.name}` }).click();
    await anna!.page.getByLabel("Title of the group").fill("Harbour watch");
    await anna!.page.getByRole("button", { name: "Create the group" }).click();
    await anna!.say("Who has the key?");
    await anna!.message("Who has the key?").focus();
    await anna!.message("Who has the key?").getByRole("button", { name: "More" }).click();
    await anna!.page.getByRole("menuitem", { name: "Pin" }).click();
    await expect(anna!.page.getByRole("region", { name: "Pinned messages" })).toBeVisible();
    for (const name of ["about", "members", "invites", "pins"]) {
        await panel(anna!.page, name);
        for (const as of LOOKS) {
            await look(anna!.page, as);
            await anna!.hasNoFindings();
            await anna!.page.screenshot({ path: join(OUT, "screens", `${project.name}-${name}-${as}.png`) });
        }
    }
    // A link lets a third user in, who has nothing but its address.
    await panel(anna!.page, "invites");
    await anna!.page.getByRole("button", { name: "Make a link" }).click();
    const link = await anna!.page.locator("code.address").textContent();
    const [vera] = (await actors(1)).slice(-1);
    await vera!.page.evaluate((hash) => (location.hash = hash), new URL(link!).hash);
    await vera!.page.getByRole("button", { name: "Join" }).click();
    await expect(vera!.page.getByRole("heading", { name: "Harbour watch" })).toBeVisible();
});

// A new user's walk, from the address to a conversation that survives a closed lid.
import { readUp } from "./screen";
import { Actor, configOf, expect, test } from "./stand";

test("two users talk, edit, react, answer and delete", async ({ actors }) => {
    const [anna, boris] = await actors(2);
    await anna!.writeTo(boris!);
    await anna!.say("Shall we meet at the **harbour**?", "Shall we meet at the harbour?");
    await expect(boris!.page.getByRole("link", { name: /1 unread message/ })).toBeVisible();
    await boris!.open(anna!);
    await expect(boris!.message("harbour").locator("strong")).toHaveText("harbour");
    await expect(anna!.message("harbour").getByText("Read", { exact: true })).toBeAttached();

    await boris!.act("harbour", "React");
    await boris!.page.getByRole("menuitem", { name: "👍" }).click();
    await expect(anna!.message("harbour").getByRole("button", { name: /👍, 1 user/ })).toBeVisible();

    await anna!.act("harbour", "Edit");
    await anna!.composer.fill("Shall we meet at the station?");
    await anna!.composer.press("Enter");
    await expect(boris!.message("station").getByText("edited")).toBeVisible();

    await boris!.act("station", "Reply");
    await boris!.say("At six");
    await expect(anna!.message("At six").getByRole("button", { name: /station/ })).toBeVisible();

    await boris!.act("At six", "Delete");
    await boris!.page.getByRole("button", { name: "Delete for all members" }).click();
    await expect(anna!.message("Message deleted")).toBeVisible();
});

test("a device that was offline has everything, in order and once", async ({ browser, laptop }) => {
    const [anna, boris] = [await Actor.register(browser), await Actor.register(laptop.browser)];
    await anna.writeTo(boris);
    await anna.say("before");
    await boris.open(anna);
    await expect(boris.message("before")).toBeVisible();
    const first = Number(await boris.message("before").getAttribute("aria-posinset"));
    await boris.context.setOffline(true);
    laptop.cable.cut();
    await expect(noConnection(boris)).toBeVisible();
    await boris.composer.fill("from the tunnel");
    await boris.composer.press("Enter");
    await expect(boris.message("from the tunnel").getByText("Waiting to be sent")).toBeAttached();
    const numbers = Array.from({ length: 30 }, (_, at) => `number ${at + 1} of thirty`);
    for (const number of numbers) await anna.say(number);
    await expect(boris.messages.getByText("of thirty")).toHaveCount(0);
    await expect(anna.message("from the tunnel")).toHaveCount(0);
    laptop.cable.mend();
    await boris.context.setOffline(false);
    // The browser says that there is a network. Otherwise its next attempt is up to half a minute away.
    await expect(noConnection(boris)).toHaveCount(0, { timeout: 5_000 });
    await boris.toEnd(numbers.at(-1)!);
    await expect(boris.message("from the tunnel").getByText(/^(Sent|Delivered|Read)$/)).toBeAttached();
    await expect(anna.message("from the tunnel")).toHaveCount(1);
    await anna.toEnd("from the tunnel");
    for (const { page } of [anna, boris]) {
        const rows = await readUp(page, first);
        expect(rows.map(({ text }) => text)).toEqual(["before", ...numbers, "from the tunnel"]);
    }
    expect([...anna.errors, ...boris.faults]).toEqual([]);
    for (const { context } of [anna, boris]) await context.close();
});

function noConnection({ page }: Actor) {
    return page.locator(".connection", { hasText: "No connection." });
}

test("a picture is sent by a picker and seen by the other user", async ({ actors }) => {
    const [anna, boris] = await actors(2);
    await anna!.writeTo(boris!);
    const { services } = await configOf(anna!.page);
    test.skip(!services.includes("media"), "the tenant has no media service");
    const picture = Buffer.from(
        "iVBORw0KGgoAAAANSUhEUgAAAAoAAAAKCAIAAAACUFjqAAAAEklEQVR42mM4oaGBBzGMSmNDAHy0bWGIhE5LAAAAAElFTkSuQmCC",
        "base64",
    );
    await anna!.page
        .locator('input[type="file"]')
        .setInputFiles({ name: "red.png", mimeType: "image/png", buffer: picture });
    await expect(anna!.page.getByRole("list", { name: "Files to send" })).toContainText("red.png");
    await expect(anna!.page.getByRole("button", { name: "Send", exact: true })).toBeEnabled();
    await anna!.page.getByRole("button", { name: "Send", exact: true }).click();
    await boris!.open(anna!);
    await expect(boris!.messages.getByRole("img", { name: "red.png" })).toBeVisible();
});

test("a reload needs no password, and no token is kept", async ({ actors }) => {
    const [anna] = await actors(1);
    const { realm } = await configOf(anna!.page);
    test.skip(realm === undefined, "there is no realm");
    await anna!.page.reload();
    await expect(anna!.page.getByRole("navigation", { name: "Chats" })).toBeVisible();
    const kept = await anna!.page.evaluate(() =>
        JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie]),
    );
    expect(kept).not.toMatch(/eyJ[\w-]+\./);
});

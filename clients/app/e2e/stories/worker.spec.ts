// The page as browsers install it, without a network, and in two tabs.
import type { Page } from "@playwright/test";
import { Actor, configOf, expect, test } from "./stand";

// Other stories are of the page alone.
test.use({ serviceWorkers: "allow" });

type Manifest = { start_url: string; display: string; icons: Array<{ src: string }> };

/** What the page gets of an address. */
function fetched(
    page: Page,
    path: string,
): Promise<{ status: number; headers: Record<string, string>; text: string }> {
    return page.evaluate(async (path) => {
        const answer = await fetch(path);
        const headers = Object.fromEntries(answer.headers);
        return { status: answer.status, headers, text: await answer.text() };
    }, path);
}

test("the messenger can be installed", async ({ actors }) => {
    const [anna] = await actors(1);
    const { page } = anna!;
    const manifest = JSON.parse((await fetched(page, "/app/manifest.webmanifest")).text) as Manifest;
    expect(manifest).toMatchObject({ start_url: "/", display: "standalone" });
    for (const { src } of manifest.icons) expect((await fetched(page, src)).status, src).toBe(200);
    const { headers } = await fetched(page, "/app/sw.js");
    expect(headers).toMatchObject({ "service-worker-allowed": "/", "cache-control": "no-cache" });
    const scope = await page.evaluate(async () => (await navigator.serviceWorker.ready).scope);
    expect(new URL(scope).pathname).toBe("/");
});

// What fails without a network is in the console of the browser, which this story does not look at.
test("without a network the page opens with its chats, and what is written goes out later", async ({
    browser,
}) => {
    const [anna, boris] = [await Actor.register(browser), await Actor.register(browser)];
    await anna.writeTo(boris);
    await anna.say("before the tunnel");
    test.skip(await isWithoutRealm(anna), "without a realm a reload asks for the password");
    await anna.page.evaluate(async () => void (await navigator.serviceWorker.ready));
    // The first page of a browser has no worker of before, and the list is written in a moment.
    await anna.page.reload();
    await expect(anna.message("before the tunnel")).toBeVisible();
    await expect.poll(() => anna.page.evaluate(async () => (await caches.keys()).length)).toBeGreaterThan(0);
    await expect.poll(() => keptChats(anna.page)).toBeGreaterThan(0);
    await anna.context.setOffline(true);
    await anna.page.reload();
    await expect(anna.inList(boris)).toBeVisible();
    await anna.composer.fill("from the tunnel");
    await anna.composer.press("Enter");
    await anna.context.setOffline(false);
    await expect(boris.page.getByRole("link", { name: /from the tunnel/ })).toBeVisible({ timeout: 60_000 });
    await expect(anna.message("from the tunnel")).toHaveCount(1);
    for (const { context } of [anna, boris]) await context.close();
});

test("two tabs have one draft, and send a message once", async ({ actors }) => {
    const [anna, boris] = await actors(2);
    await anna!.writeTo(boris!);
    test.skip(await isWithoutRealm(anna!), "without a realm each tab asks for the password");
    const tab = await anna!.context.newPage();
    await tab.goto(anna!.page.url());
    await expect(tab.locator("#composer")).toBeVisible();
    await anna!.composer.fill("half a thought");
    await expect(tab.locator("#composer")).toHaveValue("half a thought");
    await tab.locator("#composer").fill("a whole one");
    await expect(anna!.composer).toHaveValue("a whole one");
    await tab.locator("#composer").press("Enter");
    await expect(anna!.message("a whole one")).toHaveCount(1);
    await expect(anna!.composer).toHaveValue("");
    await boris!.open(anna!);
    await expect(boris!.message("a whole one")).toHaveCount(1);
});

async function isWithoutRealm({ page }: Actor): Promise<boolean> {
    return (await configOf(page)).realm === undefined;
}

/** Returns how many chats of the list the browser keeps. */
function keptChats(page: Page): Promise<number> {
    return page.evaluate(async () => {
        const done = <T>(request: IDBRequest<T>) =>
            new Promise<T>((resolve, reject) => {
                request.onsuccess = () => resolve(request.result);
                request.onerror = () => reject(request.error);
            });
        let count = 0;
        for (const { name } of await indexedDB.databases()) {
            const database = await done(indexedDB.open(name!));
            if (database.objectStoreNames.contains("chats"))
                count += await done(database.transaction("chats").objectStore("chats").count());
            database.close();
        }
        return count;
    });
}

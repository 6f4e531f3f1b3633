// Users in browsers. No story passes with an error in a console, or with a finding of axe.
import { AxeBuilder } from "@axe-core/playwright";
import { expect, test as base, type Browser, type BrowserContext, type Page } from "@playwright/test";
import { Cable } from "./cable";

/** Where pictures, recordings and figures are left. */
export const OUT = process.env["POSTHOUSE_OUT"] ?? "results";
export const PASSWORD = "correct horse battery 7";
let count = 0;

/** Returns a username that no other run has. */
export function newName(): string {
    count += 1;
    return `s${Date.now().toString(36)}${count}`;
}

/** What the service web says of its tenant. It is asked in the page: Node resolves no names below `localhost`, as browsers do. */
export type PageConfig = { name: string; realm?: string; services: string[] };

export function configOf(page: Page): Promise<PageConfig> {
    return page.evaluate(async () => (await (await fetch("/app/config.json")).json()) as PageConfig);
}

/** Opens the address, which answers within a minute: routes of a tenant that is ready are a moment later where requests come in. */
export async function opened(page: Page): Promise<void> {
    await expect(async () => {
        const answer = await page.goto("/");
        expect(answer?.status()).toBe(200);
    }).toPass({ timeout: 60_000 });
}

/** No finding, of WCAG 2.2 AA and of best practice. */
export async function hasNoFindings(page: Page): Promise<void> {
    const { violations } = await new AxeBuilder({ page })
        .withTags(["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"])
        .analyze();
    expect(
        violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ target }) => target.join(" ")).join(", ")}`),
    ).toEqual([]);
}

/** A browser calls each 404 an error. Here it is the answer: a user has no picture, or a page shows nothing of itself. */
function isAnswer(url: string): boolean {
    return /\/api\/media\/(avatars|previews)/.test(url);
}

/** Does something every so many milliseconds, first at once, until `untilMs` of the clock. One that takes longer delays the next. */
export async function every(ms: number, untilMs: number, act: (count: number) => Promise<void>): Promise<void> {
    const beganMs = Date.now();
    for (let count = 1; Date.now() < untilMs; count += 1) {
        await act(count);
        await new Promise((resolve) => setTimeout(resolve, beganMs + count * ms - Date.now()));
    }
}

/** What a browser says of a connection that it was cut off from. */
const OF_CONNECTIONS = /WebSocket connection to|Failed to load resource|net::ERR_|Failed to fetch/;

/** One user in a browser of their own. */
export class Actor {
    private constructor(
        readonly name: string,
        readonly page: Page,
        readonly context: BrowserContext,
        readonly errors: string[],
    ) {}

    /** Registers a user and signs them in, on the page of the realm where there is one; `prepare` comes before the first request. */
    static async register(
        browser: Browser,
        name = newName(),
        prepare: (context: BrowserContext) => Promise<void> = async () => undefined,
    ): Promise<Actor> {
        const context = await browser.newContext();
        await prepare(context);
        const page = await context.newPage();
        const errors: string[] = [];
        page.on("pageerror", (error) => errors.push(error.message));
        page.on("console", (message) => {
            if (message.type() === "error" && !isAnswer(message.location().url)) errors.push(message.text());
        });
        await page.goto("/");
        await page.getByRole("button", { name: "Create an account" }).click();
        await page.getByLabel("Username").fill(name);
        await page.getByLabel("New password").fill(PASSWORD);
        await page.getByRole("button", { name: "Create the account" }).click();
        const actor = new Actor(name, page, context, errors);
        await actor.signInAtRealm();
        await expect(page.getByRole("navigation", { name: "Chats" })).toBeVisible();
        return actor;
    }

    /** The errors in the console, but for those of connections: for stories that cut them. */
    get faults(): string[] {
        return this.errors.filter((error) => !OF_CONNECTIONS.test(error));
    }

    /** Fills the form of Keycloak, where the browser is there. */
    async signInAtRealm(): Promise<void> {
        const chats = this.page.getByRole("navigation", { name: "Chats" });
        const form = this.page.locator("#kc-form-login, form#kc-login-form");
        await expect(chats.or(form)).toBeVisible();
        if (await chats.isVisible()) return;
        await this.page.locator("#username").fill(this.name);
        await this.page.locator("#password").fill(PASSWORD);
        await this.page.locator("#kc-login").click();
    }

    /** The chat with another user in the list. In the chat itself the name leads to the user's page. */
    inList(other: Actor) {
        const chats = this.page.getByRole("navigation", { name: "Chats" });
        return chats.getByRole("link", { name: new RegExp(other.name) });
    }

    /** Opens the dialog of a new chat and chooses another user. */
    async beginWith(other: Actor): Promise<void> {
        await this.page.getByRole("button", { name: "New chat" }).click();
        await this.page.getByLabel("Find users").fill(other.name);
        await this.page.getByRole("button", { name: `@${other.name}` }).click();
    }

    /** Begins a direct chat. */
    async writeTo(other: Actor): Promise<void> {
        await this.beginWith(other);
        await this.page.getByRole("button", { name: "Start the chat" }).click();
        await expect(this.composer).toBeVisible();
    }

    get composer() {
        return this.page.locator("#composer");
    }

    get messages() {
        return this.page.getByRole("feed", { name: "Messages" });
    }

    message(text: string) {
        return this.messages.getByRole("article").filter({ hasText: text });
    }

    /** Writes a message; `shown` is how its Markdown reads. */
    async say(text: string, shown = text): Promise<void> {
        await this.composer.fill(text);
        await this.send();
        await expect(this.message(shown)).toBeVisible();
    }

    /** Sends what is written. A keyboard on the screen has no other key for a new line than Enter. */
    async send(): Promise<void> {
        if (await this.isTouch()) await this.page.getByRole("button", { name: "Send", exact: true }).click();
        else await this.composer.press("Enter");
    }

    isTouch(): Promise<boolean> {
        return this.page.evaluate(() => matchMedia("(pointer: coarse)").matches);
    }

    /** Does something to a message: its actions are there while a pointer is over it, and once a finger has chosen it. */
    async act(text: string, name: string): Promise<void> {
        if (await this.isTouch()) await this.message(text).focus();
        else await this.message(text).hover();
        await this.message(text).getByRole("button", { name, exact: true }).click();
    }

    async open(other: Actor): Promise<void> {
        await this.inList(other).click();
    }

    /** Goes to the newest messages, where the list is not there already, until this one is among them. */
    async toEnd(text: string): Promise<void> {
        const button = this.page.getByRole("button", { name: "To the newest messages" });
        await expect(async () => {
            if (await button.isVisible()) await button.click();
            await expect(this.message(text)).toBeVisible({ timeout: 1_000 });
            await expect(button).toHaveCount(0, { timeout: 1_000 });
        }).toPass({ timeout: 60_000 });
    }
}

/** A browser of its own, on a cable that can be cut. */
type Laptop = { browser: Browser; cable: Cable };

export const test = base.extend<{ actors: (count: number) => Promise<Actor[]>; laptop: Laptop }>({
    laptop: async ({ playwright, launchOptions, baseURL }, use) => {
        const { hostname, port } = new URL(baseURL!);
        const cable = await Cable.to(Number(port === "" ? 80 : port));
        const rule = `--host-resolver-rules=MAP ${hostname} 127.0.0.1:${cable.port}`;
        const args = [...(launchOptions.args ?? []), rule];
        const browser = await playwright.chromium.launch({ ...launchOptions, args });
        await use({ browser, cable });
        await browser.close();
        cable.close();
    },
    actors: async ({ browser }, use) => {
        const made: Actor[] = [];
        await use(async (wanted) => {
            for (let at = 0; at < wanted; at += 1) made.push(await Actor.register(browser));
            return made;
        });
        for (const actor of made) {
            expect.soft(actor.errors, `console of ${actor.name}`).toEqual([]);
            await actor.context.close();
        }
    },
});

export { expect };

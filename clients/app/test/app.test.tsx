// The page as a whole, over the library, against a messenger that speaks the protocol.
import { act, render, screen, waitFor, within, type RenderResult } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { beforeEach, expect, test, vi } from "vitest";
import { Preferences } from "../src/preferences";
import { SignIn } from "../src/sign-in";
import { Kept } from "../src/state/kept";
import { Texts } from "../src/text/texts";
import { App } from "../src/ui/app";
import { FakeMessenger } from "./messenger";
import { ANNA, CHAT, entry, ME } from "./stand";

let messenger: FakeMessenger;

beforeEach(async () => {
    // What the user of another test kept.
    await Kept.forget(ME);
    messenger = new FakeMessenger();
    messenger.install();
});

/** Opens the page, and signs in. */
async function opened(): Promise<RenderResult> {
    const signIn = new SignIn({ name: "Acme", services: ["search"] });
    const page = render(
        <App signIn={signIn} preferences={new Preferences()} firstTexts={await Texts.load("en")} />,
    );
    await userEvent.type(await screen.findByLabelText("Username"), "me");
    await userEvent.type(screen.getByLabelText("Password"), "a password");
    await userEvent.click(screen.getByRole("button", { name: "Sign in" }));
    return page;
}

async function openChat(): Promise<HTMLElement> {
    await screen.findByRole("link", { name: /Harbour/ });
    act(() => {
        location.hash = `#/chat/${CHAT}`;
        window.dispatchEvent(new HashChangeEvent("hashchange"));
    });
    return screen.findByRole("textbox", { name: "Message" });
}

test("a tenant is known by its name, its colour and its logo", async () => {
    messenger.isSignedIn = false;
    const logo = "data:image/png;base64,iVBORw0KGgo=";
    const signIn = new SignIn({ name: "Umbrella & Söhne", color: "#1f5f8b", logo, services: [] });
    const { container } = render(
        <App signIn={signIn} preferences={new Preferences()} firstTexts={await Texts.load("en")} />,
    );
    expect((await screen.findByRole("heading")).textContent).toBe("Umbrella & Söhne");
    expect(document.title).toBe("Umbrella & Söhne");
    // It says nothing that the heading does not.
    expect(container.querySelector("img.logo")).toMatchObject({ src: logo, alt: "" });
    expect(document.documentElement.style.getPropertyValue("--accent")).toContain("#1f5f8b");
});

test("a wrong password is said so, and the form stays", async () => {
    messenger.isSignedIn = false;
    await opened();
    expect((await screen.findByRole("alert")).textContent).toContain("wrong");
    expect(screen.getByLabelText("Username")).toHaveProperty("value", "me");
});

test("a user signs in, sees the chats, and what comes is counted", async () => {
    messenger.say("first");
    await opened();
    const list = await screen.findByRole("navigation", { name: "Chats" });
    const chat = await within(list).findByRole("link", { name: /Harbour/ });
    await waitFor(() => expect(chat.textContent).toContain("Anna: first"));
    act(() => messenger.say("second"));
    await waitFor(() => expect(chat.textContent).toContain("second"));
});

test("what is sent without a connection goes out once it is back, once", async () => {
    await opened();
    const field = await openChat();
    act(() => messenger.down());
    await screen.findByText(/No connection/, { selector: ".connection" });
    await userEvent.type(field, "from the tunnel{Enter}");
    expect(messenger.log).toEqual([]);
    messenger.up();
    await waitFor(() => expect(messenger.log.map(({ body }) => body)).toEqual(["from the tunnel"]), {
        timeout: 5_000,
    });
    await waitFor(() => expect(screen.queryByText(/No connection/, { selector: ".connection" })).toBeNull());
});

/** A machine under load is slow, and the next attempt is a minute away. */
const patience = { timeout: 5_000 };
const WAKES: Array<[string, () => void]> = [
    ["whose network is back", () => window.dispatchEvent(new Event("online"))],
    ["that is seen again", () => document.dispatchEvent(new Event("visibilitychange"))],
];
for (const [which, wake] of WAKES) {
    test(`a page ${which} connects at once, and shows who is online by its connection alone`, async () => {
        messenger.chat = { kind: "direct", other: ANNA };
        messenger.presences = [{ user: ANNA, state: "online" }];
        await opened();
        const chat = await screen.findByRole("link", { name: /Harbour.*online/ }, patience);
        vi.spyOn(Math, "random").mockReturnValue(60);
        act(() => messenger.down());
        await screen.findByText(/No connection/, { selector: ".connection" }, patience);
        await waitFor(() => expect(chat.textContent).not.toContain("online"), patience);
        messenger.up();
        act(wake);
        const bar = () => screen.queryByText(/No connection/, { selector: ".connection" });
        await waitFor(() => expect(bar()).toBeNull(), patience);
        await waitFor(() => expect(chat.textContent).toContain("online"), patience);
        vi.restoreAllMocks();
    });
}

test("a page whose first connection takes long says so", async () => {
    messenger.isSlow = true;
    await opened();
    await screen.findByRole("navigation", { name: "Chats" });
    expect(screen.queryByText("Connecting…")).toBeNull();
    await screen.findByText("Connecting…", {}, patience);
});

test("what was not sent when the page was closed goes out with the next one, once", async () => {
    const page = await opened();
    const field = await openChat();
    act(() => messenger.down());
    await userEvent.type(field, "before the lid closes{Enter}");
    await userEvent.type(field, "and a draft");
    page.unmount();
    // The session of a closed page ends in the next turn.
    await new Promise((resolve) => setTimeout(resolve));
    messenger.up();
    history.replaceState(null, "", "/");
    await opened();
    await waitFor(() => expect(messenger.log.map(({ body }) => body)).toEqual(["before the lid closes"]), {
        timeout: 5_000,
    });
    expect(await openChat()).toHaveProperty("value", "and a draft");
});

test("a chat that the user is not in is said so", async () => {
    history.replaceState(null, "", `/#/chat/${CHAT.replace("3", "4")}`);
    await opened();
    expect((await screen.findByText("You are not in this chat.")).getAttribute("role")).toBe("alert");
});

test("settings change the language at once, and it stays", async () => {
    history.replaceState(null, "", "/#/?panel=settings");
    await opened();
    await userEvent.selectOptions(await screen.findByLabelText("Language"), "ru");
    expect(await screen.findByRole("heading", { name: "Настройки" })).toBeDefined();
    await waitFor(() => expect(document.documentElement.lang).toBe("ru"));
    expect(new Preferences().language).toBe("ru");
});

test("a page that opens without a connection shows the list of before, and keeps what is written", async () => {
    messenger.say("first");
    const page = await opened();
    await screen.findByRole("link", { name: /Harbour/ });
    // A page that is closed writes what it has.
    page.unmount();
    await vi.waitFor(async () => expect((await (await Kept.open(ME)).list())?.chats).toHaveLength(1));
    messenger.down();
    localStorage.setItem("posthouse.signed-in", ME);
    history.replaceState(null, "", "/");
    const realm = "http://id.localhost/realms/acme";
    const signIn = new SignIn({ name: "Acme", services: [], realm, isKept: true });
    render(<App signIn={signIn} preferences={new Preferences()} firstTexts={await Texts.load("en")} />);
    const chat = await screen.findByRole("link", { name: /Harbour/ });
    expect(chat.textContent).toContain("Anna: first");
    await screen.findByText(/No connection/, { selector: ".connection" });
    await userEvent.type(await openChat(), "from the tunnel{Enter}");
    await vi.waitFor(async () => expect(await (await Kept.open(ME)).load()).toHaveLength(1));
    expect(messenger.log).toHaveLength(1);
});

test("a chat that has grown since the list was kept is opened at its end", async () => {
    messenger.say("first");
    const page = await opened();
    await screen.findByRole("link", { name: /Harbour/ });
    page.unmount();
    await vi.waitFor(async () => expect((await (await Kept.open(ME)).list())?.chats).toHaveLength(1));
    for (let count = 0; count < 300; count += 1) messenger.log.push(entry(messenger.log.length + 1));
    history.replaceState(null, "", `/#/chat/${CHAT}`);
    messenger.isDeaf = true;
    messenger.histories.length = 0;
    await opened();
    await screen.findByRole("textbox", { name: "Message" });
    messenger.isDeaf = false;
    await waitFor(() => expect(messenger.histories.length).toBeGreaterThan(0), { timeout: 5_000 });
    expect(Math.min(...messenger.histories)).toBeGreaterThan(100);
});

test("no token is in what the browser keeps", async () => {
    await opened();
    await screen.findByRole("link", { name: /Harbour/ });
    expect(JSON.stringify([{ ...localStorage }, { ...sessionStorage }])).not.toMatch(/"(a|r)"|token/);
});

test("of an account that was deleted here this browser keeps nothing, and the receipt is shown", async () => {
    messenger.answers.set("POST /api/auth/delete-account", () => [200, { receipt: "the-receipt" }]);
    await opened();
    const kept = await Kept.open(ME);
    await screen.findByRole("link", { name: /Harbour/ });
    await waitFor(async () => expect(await kept.me()).toBeDefined());
    await userEvent.click(screen.getByRole("button", { name: "Settings" }));
    await userEvent.click(
        await screen.findByRole("button", { name: "Delete the account…" }, { timeout: 5_000 }),
    );
    const form = within(screen.getByRole("button", { name: "Delete the account" }).closest("form")!);
    await userEvent.type(form.getByLabelText("Current password"), "a password");
    await userEvent.click(form.getByLabelText(/no way back/));
    await userEvent.click(form.getByRole("button", { name: "Delete the account" }));
    expect((await screen.findByRole("link", { name: /the-receipt/ })).getAttribute("href")).toContain(
        "/erasures/",
    );
    await waitFor(async () => expect(await (await Kept.open(ME)).me()).toBeUndefined());
});

/** Opens the page of a user of whom this browser keeps the list, a draft and a message that is not sent, without a connection. */
async function openedWithMuch(): Promise<void> {
    messenger.say("first");
    await opened();
    const field = await openChat();
    await vi.waitFor(async () => expect((await (await Kept.open(ME)).list())?.chats).toHaveLength(1), 5_000);
    localStorage.setItem("posthouse.signed-in", ME);
    act(() => messenger.down());
    await userEvent.type(field, "from the tunnel{Enter}");
    await userEvent.type(field, "and a draft");
    await vi.waitFor(async () => expect(await (await Kept.open(ME)).drafts()).toHaveLength(1));
}

/** Returns of how many chats, drafts and messages that are not sent this browser has something. */
async function left(): Promise<number[]> {
    const kept = await Kept.open(ME);
    const all = [(await kept.list())?.chats ?? [], await kept.drafts(), await kept.load()];
    kept.close();
    return all.map(({ length }) => length);
}

test("of a session that is ended from elsewhere this browser keeps nothing", async () => {
    messenger.say("first");
    await opened();
    await userEvent.type(await openChat(), "a draft");
    await vi.waitFor(async () => expect(await left()).toEqual([1, 1, 0]), 5_000);
    localStorage.setItem("posthouse.signed-in", ME);
    new Preferences().set({ notifies: true });
    act(() => messenger.end());
    await screen.findByText(/has forgotten your chats, drafts/);
    expect((await screen.findByRole("alert")).textContent).toContain("was ended");
    await vi.waitFor(async () => expect(await left()).toEqual([0, 0, 0]));
    expect([localStorage.getItem("posthouse.signed-in"), localStorage.getItem("posthouse.device")]).toEqual([
        null,
        null,
    ]);
    await waitFor(() => expect(new Preferences().notifies).toBe(false));
});

test("of a sign-in that is over this browser keeps only what was not sent", async () => {
    await openedWithMuch();
    messenger.isSignedIn = false;
    messenger.answers.set("POST /api/auth/refresh", () => [401, {}]);
    vi.spyOn(performance, "now").mockImplementation(() => Date.now() + 3_600_000);
    messenger.up();
    await screen.findByText(/Messages that were not sent are still here/);
    await vi.waitFor(async () => expect(await left()).toEqual([0, 0, 1]));
    expect(localStorage.getItem("posthouse.signed-in")).toBeNull();
    vi.restoreAllMocks();
});

test("who signs out without a connection leaves nothing in this browser, and reads that the session goes on", async () => {
    await openedWithMuch();
    await userEvent.click(screen.getByRole("button", { name: "Settings" }));
    await userEvent.click(await screen.findByRole("button", { name: "Sign out" }, { timeout: 5_000 }));
    expect((await screen.findByText(/The messenger did not answer/)).getAttribute("role")).toBe("status");
    expect(await left()).toEqual([0, 0, 0]);
    expect(localStorage.getItem("posthouse.signed-in")).toBeNull();
});

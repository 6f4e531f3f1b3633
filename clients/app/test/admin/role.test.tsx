// Who sees the console: the page as a whole, over the library.
import { act, render, screen, waitFor } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { expect, test, vi } from "vitest";
import { Preferences } from "../../src/preferences";
import { SignIn } from "../../src/sign-in";
import { Texts } from "../../src/text/texts";
import { App } from "../../src/ui/app";
import { FakeMessenger } from "../messenger";
import { CHAT, ME } from "../stand";

async function opened(messenger: FakeMessenger, services = ["moderation"]): Promise<void> {
    messenger.install();
    const signIn = new SignIn({ name: "Acme", services });
    render(<App signIn={signIn} preferences={new Preferences()} firstTexts={await Texts.load("en")} />);
    await userEvent.type(await screen.findByLabelText("Username"), "me");
    await userEvent.type(screen.getByLabelText("Password"), "a password");
    await userEvent.click(screen.getByRole("button", { name: "Sign in" }));
    await screen.findByRole("link", { name: /Harbour/ });
}

const moderating = (moderates: boolean): [number, unknown] => [200, { moderates, sanctions: [], appeals: [] }];
const REFUSED: [number, unknown] = [
    403,
    {
        ...{ type: "urn:posthouse:error:permission_denied", title: "", status: 403, code: "permission_denied" },
    },
];

test("a plain user sees nothing of the console, and its address says so", async () => {
    const messenger = new FakeMessenger();
    messenger.answers.set("GET /api/moderation/own", () => moderating(false));
    history.replaceState(null, "", "/#/admin/users");
    await opened(messenger);
    expect((await screen.findByRole("alert")).textContent).toContain("no moderator");
    expect(screen.queryByRole("button", { name: "Administration" })).toBeNull();
    expect(messenger.calls.filter((call) => call.includes("/api/moderation/"))).toEqual([
        "GET /api/moderation/own",
    ]);
});

test("a messenger without moderators asks no one and has no console", async () => {
    const messenger = new FakeMessenger();
    history.replaceState(null, "", "/#/admin/queue");
    await opened(messenger, ["search"]);
    expect((await screen.findByRole("alert")).textContent).toContain("no moderator");
    expect(messenger.calls.some((call) => call.includes("/api/moderation/"))).toBe(false);
});

test("a moderator opens the console, goes from screen to screen, and back to the chats", async () => {
    const messenger = new FakeMessenger();
    messenger.answers.set("GET /api/moderation/own", () => moderating(true));
    await opened(messenger);
    await userEvent.click(await screen.findByRole("button", { name: "Administration" }));
    expect(location.hash).toBe("#/admin/queue");
    await screen.findByRole("heading", { name: "Reports" }, { timeout: 5_000 });
    act(() => {
        location.hash = "#/admin/audit";
        window.dispatchEvent(new HashChangeEvent("hashchange"));
    });
    await screen.findByRole("heading", { name: "Audit log" });
    expect(screen.getByRole("link", { name: "Audit log" }).getAttribute("aria-current")).toBe("page");
    await userEvent.click(screen.getByRole("button", { name: "To the chats" }));
    await screen.findByText("Choose a chat, or begin a new one.");
});

test("who chooses a group by the keyboard stays in the list of groups", async () => {
    const messenger = new FakeMessenger();
    messenger.answers.set("GET /api/moderation/own", () => moderating(true));
    const chat = { chat_id: CHAT, kind: "group", role: "owner", title: "Harbour", member_count: 2 };
    messenger.answers.set("GET /api/chats", () => [200, { items: [{ ...chat, created_at_ms: 1 }] }]);
    await opened(messenger);
    await screen.findByRole("button", { name: "Administration" });
    act(() => {
        location.hash = "#/admin/invitations";
        window.dispatchEvent(new HashChangeEvent("hashchange"));
    });
    const groups = await screen.findByLabelText("Group or channel", {}, { timeout: 5_000 });
    groups.focus();
    await userEvent.selectOptions(groups, "Harbour");
    await screen.findByText("There is none.");
    expect(location.hash).toBe(`#/admin/invitations?of=${CHAT}`);
    expect(document.activeElement).toBe(screen.getByLabelText("Group or channel"));
    expect(groups.isConnected).toBe(true);
});

test("who is no moderator any more reads so with the first refusal, and the console goes", async () => {
    const messenger = new FakeMessenger();
    messenger.answers.set("GET /api/moderation/own", () => moderating(true));
    messenger.answers.set("GET /api/moderation/reports", () => REFUSED);
    await opened(messenger);
    await userEvent.click(await screen.findByRole("button", { name: "Administration" }));
    await waitFor(() => expect(screen.getByRole("alert").textContent).toContain("You are no moderator here."), {
        timeout: 5_000,
    });
    await waitFor(() => expect(screen.queryByRole("button", { name: "Administration" })).toBeNull());
});

test("who is muted meanwhile reads so as they begin to write, and what they wrote stays", async () => {
    const messenger = new FakeMessenger();
    const mute = { id: "s", user: ME, kind: "mute", note: "Too loud", created_at_ms: 0 };
    let sanctions: unknown[] = [];
    messenger.answers.set("GET /api/moderation/own", () => [200, { moderates: false, sanctions, appeals: [] }]);
    await opened(messenger);
    await userEvent.click(screen.getByRole("link", { name: /Harbour/ }));
    const field = await screen.findByRole("textbox", { name: "Message" });
    await userEvent.type(field, "w");
    sanctions = [mute];
    const asked = () => messenger.calls.filter((call) => call === "GET /api/moderation/own").length;
    // Not with every key, and not by every user who types.
    expect(asked()).toBe(1);
    const now = performance.now.bind(performance);
    vi.spyOn(performance, "now").mockImplementation(() => now() + 60_000);
    await userEvent.type(field, "h");
    expect((await screen.findByText(/Too loud/)).closest("[role=status]")).toBeTruthy();
    expect(asked()).toBe(2);
    expect(screen.queryByRole("textbox", { name: "Message" })).toBeNull();
    // Who comes back after it was lifted writes on.
    sanctions = [];
    vi.mocked(performance.now).mockImplementation(() => now() + 120_000);
    document.dispatchEvent(new Event("visibilitychange"));
    expect(await screen.findByRole("textbox", { name: "Message" })).toHaveProperty("value", "wh");
});

test("the console is no part of the first load", async () => {
    const sources = import.meta.glob<string>(["../../src/**/*.{ts,tsx}", "!../../src/{ui,state}/admin/*"], {
        query: "?raw",
        import: "default",
        eager: true,
    });
    const files = Object.entries(sources).filter(([path]) => !path.endsWith("text/admin.ts"));
    expect(files.length).toBeGreaterThan(20);
    const named = files.flatMap(([path, source]) =>
        [...source.matchAll(/^(?:import|export)[^;]* from "([^"]*\/admin(?:\/[^"]*)?)";/gm)].map(
            ([, target]) => `${path} ${target}`,
        ),
    );
    expect(named).toEqual([]);
});

// What a page shows of messages that come while its user looks elsewhere.
import { act, waitFor } from "@testing-library/react";
import type { ReactNode } from "react";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { installed } from "../src/installed";
import { placeOf } from "../src/place";
import { useNotifications } from "../src/ui/notifications";
import { FakeLocks } from "./locks";
import { ANNA, CHAT, chatState, entry, ME, profile, stand, type Stand } from "./stand";

const show = vi.fn(async () => undefined);

beforeEach(() => {
    vi.stubGlobal("Notification", { permission: "granted" });
    vi.spyOn(document, "hasFocus").mockReturnValue(false);
    vi.spyOn(installed, "show").mockImplementation(show);
    show.mockClear();
    localStorage.setItem("posthouse.preferences", JSON.stringify({ notifies: true }));
});
afterEach(() => {
    vi.unstubAllGlobals();
    FakeLocks.remove();
});

function Page(): ReactNode {
    useNotifications();
    return null;
}

async function page(state = chatState()): Promise<Stand> {
    const made = await stand(state);
    made.show(<Page />);
    return made;
}

test("a chat has one notification, of its last message, which leads there", async () => {
    const { workspace } = await page();
    workspace.onNews({ message: entry(7, { body: "the boat is in" }), chat: chatState() });
    await waitFor(() => expect(show).toHaveBeenCalledOnce());
    const options = { body: "the boat is in", tag: CHAT, renotify: true, data: { chat: CHAT, seq: 7 } };
    expect(show).toHaveBeenCalledWith("Anna · Harbour", expect.objectContaining(options));
    installed.onChosen({ chat: CHAT, seq: 7 });
    expect(placeOf(location.hash)).toEqual({ chat: CHAT, at: 7 });
});

test("two tabs of a browser show it once", async () => {
    new FakeLocks().install();
    const [one, other] = [await page(), await page()];
    for (const { workspace } of [one, other]) workspace.onNews({ message: entry(7), chat: chatState() });
    await waitFor(() => expect(show).toHaveBeenCalledOnce());
    one.workspace.onNews({ message: entry(8), chat: chatState() });
    await waitFor(() => expect(show).toHaveBeenCalledTimes(2));
});

test("a muted chat, a silent message and who did not ask for it show nothing", async () => {
    const { workspace } = await page();
    const own = { version: 2, archived: false, favourite: false, muted_until_ms: Date.now() + 60_000 };
    workspace.onNews({ message: entry(7), chat: chatState({ own }) });
    workspace.onNews({ message: entry(7, { silent: true }), chat: chatState() });
    localStorage.clear();
    (await page()).workspace.onNews({ message: entry(7), chat: chatState() });
    await Promise.resolve();
    expect(show).not.toHaveBeenCalled();
});

test("a page notifies of what the user wants, and when, as pushes do", async () => {
    const { workspace } = await page();
    const { notices } = workspace;
    const came = async (fields: Parameters<typeof entry>[1] = {}, state = chatState()) => {
        show.mockClear();
        workspace.onNews({ message: entry(7, fields), chat: state });
        await Promise.resolve();
        return show.mock.calls.length;
    };
    notices.preferences = { level: "mentions", shows_text: true };
    expect(await came()).toBe(0);
    expect(await came({ mentions: [ME] })).toBe(1);
    expect(await came({ mentions_all: true })).toBe(1);
    expect(await came({}, chatState({ kind: "direct", other: ANNA }))).toBe(1);
    notices.preferences = { level: "none", shows_text: true };
    expect(await came({ mentions: [ME] })).toBe(0);
    notices.preferences = { level: "all", shows_text: false };
    expect(await came({ body: "a secret" })).toBe(1);
    expect(show).toHaveBeenCalledWith("Harbour", expect.objectContaining({ body: "1 unread message" }));
});

test("who looks like another is announced with a username", async () => {
    const { workspace } = await page();
    const eve = "55555555-5555-4555-8555-555555555555";
    workspace.users.take(profile(eve, "eve", "Аnna"));
    workspace.onNews({ message: entry(7, { sender: eve }), chat: chatState() });
    await waitFor(() => expect(show).toHaveBeenCalledWith("Аnna @eve · Harbour", expect.anything()));
});

test("quiet hours may last over midnight, and are those of the user's time zone", async () => {
    const { workspace } = await page();
    const { notices } = workspace;
    const quiet = { from: "22:00", to: "07:00", time_zone: "Europe/Moscow" };
    notices.preferences = { level: "all", shows_text: true, quiet };
    const wants = (at: string) => notices.wants(entry(7), "direct", ME, Date.parse(at));
    // Moscow is three hours ahead of UTC.
    expect(
        ["18:59", "19:00", "23:30", "03:59", "04:00"].map((time) => wants(`2026-11-30T${time}:00Z`)),
    ).toEqual([true, false, false, false, true]);
    notices.preferences = { level: "all", shows_text: true, quiet: { ...quiet, to: "22:00" } };
    expect(wants("2026-11-30T19:00:00Z")).toBe(true);
});

test("what the user wants is asked for with a connection, by who is notified here", async () => {
    const made = await stand(chatState(), [], { services: ["notification"] });
    made.answers.set("GET /api/notifications/preferences", { level: "none", shows_text: true });
    made.show(<Page />);
    expect(made.calls).toEqual([]);
    act(() => made.workspace.connection.set("online"));
    await waitFor(() => expect(made.workspace.notices.preferences?.level).toBe("none"));
});

test("the icon of the installed messenger has what is unread", async () => {
    const setAppBadge = vi.fn(async () => undefined);
    Object.defineProperty(navigator, "setAppBadge", { configurable: true, value: setAppBadge });
    const clear = vi.spyOn(installed, "clear").mockResolvedValue(undefined);
    const marks = { read_seq: 0, delivered_seq: 3, unread: 3, mentions: 0, counted_seq: 3 };
    await page(chatState({ head_seq: 3, entries: [entry(3)], watermarks: marks }));
    await waitFor(() => expect(setAppBadge).toHaveBeenCalledWith(3));
    expect(clear.mock.calls[0]![0](CHAT)).toBe(false);
    Reflect.deleteProperty(navigator, "setAppBadge");
});

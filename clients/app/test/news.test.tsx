// What a page shows of messages that come while its user looks elsewhere.
import { waitFor } from "@testing-library/react";
import type { ReactNode } from "react";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { installed } from "../src/installed";
import { placeOf } from "../src/place";
import { useNotifications } from "../src/ui/notifications";
import { FakeLocks } from "./locks";
import { CHAT, chatState, entry, stand, type Stand } from "./stand";

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

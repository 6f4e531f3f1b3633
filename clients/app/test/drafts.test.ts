import { beforeEach, expect, test, vi } from "vitest";
import { Drafts } from "../src/state/drafts";
import { Kept } from "../src/state/kept";
import { CHAT } from "./stand";

const own = (version: number, body?: string) => ({
    version,
    archived: false,
    favourite: false,
    ...(body !== undefined && { draft: { body } }),
});

let kept: Kept;
const updateOwnState = vi.fn(async () => own(1));

beforeEach(async () => {
    updateOwnState.mockClear();
    kept = await Kept.open(crypto.randomUUID());
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
});

test("a draft is shared once, in a pause", () => {
    const drafts = new Drafts({ updateOwnState }, kept, []);
    for (const body of ["h", "he", "hello"]) drafts.set(CHAT, { body });
    vi.advanceTimersByTime(2_000);
    expect(updateOwnState.mock.calls).toEqual([[CHAT, { draft: { body: "hello" } }]]);
});

test("another device's draft is taken, but not over what is typed here", () => {
    const drafts = new Drafts({ updateOwnState }, kept, []);
    drafts.take(CHAT, own(2, "from the phone"));
    expect(drafts.get(CHAT).body).toBe("from the phone");
    drafts.set(CHAT, { body: "typed" });
    drafts.take(CHAT, own(3, "older"));
    expect(drafts.get(CHAT).body).toBe("typed");
});

test("a sent draft is taken away from all devices", () => {
    const drafts = new Drafts({ updateOwnState }, kept, []);
    drafts.take(CHAT, own(2, "hello"));
    drafts.clear(CHAT);
    expect(updateOwnState.mock.calls).toEqual([[CHAT, { draft: { body: "" } }]]);
});

test("a draft that no device shares stays over a reload", async () => {
    vi.useRealTimers();
    const drafts = new Drafts({ updateOwnState }, kept, []);
    drafts.set(CHAT, { body: "hello", replyTo: 4 });
    const later = new Drafts({ updateOwnState }, kept, await kept.drafts());
    expect(later.get(CHAT)).toEqual({ body: "hello", replyTo: 4 });
});

test("after a reload a draft that is emptied here is taken away from all devices, and one that is emptied there from here", () => {
    const drafts = new Drafts({ updateOwnState }, kept, [{ chat: CHAT, body: "hello" }]);
    drafts.recall([{ chat: CHAT, own: own(2, "hello") }]);
    drafts.clear(CHAT);
    expect(updateOwnState.mock.calls).toEqual([[CHAT, { draft: { body: "" } }]]);
    const later = new Drafts({ updateOwnState }, kept, [{ chat: CHAT, body: "hello" }]);
    later.recall([{ chat: CHAT, own: own(2, "hello") }]);
    later.take(CHAT, own(3));
    expect(later.get(CHAT).body).toBe("");
});

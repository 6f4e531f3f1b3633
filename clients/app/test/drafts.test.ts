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

/** Drafts whose way to the messenger takes as long as a test says. */
function slow() {
    const answers: Array<(kept: ReturnType<typeof own>) => void> = [];
    const share = vi.fn(() => new Promise<ReturnType<typeof own>>((resolve) => answers.push(resolve)));
    const drafts = new Drafts({ updateOwnState: share }, kept, []);
    drafts.set(CHAT, { body: "hello" });
    vi.advanceTimersByTime(2_000);
    return { drafts, share, answers };
}

test("a draft that is sent while it is on its way is taken away behind it, and not beside it", async () => {
    const { drafts, share, answers } = slow();
    drafts.clear(CHAT);
    expect(share).toHaveBeenCalledTimes(1);
    answers[0]!(own(1, "hello"));
    await vi.waitFor(() => expect(share).toHaveBeenCalledTimes(2));
    expect(share).toHaveBeenLastCalledWith(CHAT, { draft: { body: "" } });
});

test("what the messenger says of a draft on its way does not bring it back to the field", async () => {
    const { drafts, share, answers } = slow();
    drafts.clear(CHAT);
    drafts.take(CHAT, own(1, "hello"));
    answers[0]!(own(1, "hello"));
    await vi.waitFor(() => expect(share).toHaveBeenCalledTimes(2));
    drafts.take(CHAT, own(1, "hello"));
    expect(drafts.get(CHAT).body).toBe("");
});

test("what another device has written behind a draft on its way is shown then", async () => {
    const { drafts, answers } = slow();
    drafts.take(CHAT, own(2, "from the phone"));
    expect(drafts.get(CHAT).body).toBe("hello");
    answers[0]!(own(1, "hello"));
    await vi.waitFor(() => expect(drafts.get(CHAT).body).toBe("from the phone"));
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

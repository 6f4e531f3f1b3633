// Two tabs of one browser: what is kept is theirs together.
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Drafts } from "../src/state/drafts";
import { Kept } from "../src/state/kept";
import { Tabs } from "../src/state/tabs";
import { FakeLocks } from "./locks";
import { CHAT } from "./stand";

const outgoing = (key: string) => ({ chat: CHAT, key, post: { kind: "text", body: key } as const });
const keys = (messages: ReadonlyArray<{ key: string }>) => messages.map(({ key }) => key);

let user: string;
let locks: FakeLocks;

beforeEach(() => {
    user = crypto.randomUUID();
    locks = new FakeLocks();
    locks.install();
});
afterEach(() => FakeLocks.remove());

async function tab(): Promise<{ tabs: Tabs; kept: Kept }> {
    const tabs = await Tabs.open(user);
    return { tabs, kept: await Kept.open(user, tabs) };
}

test("what an open tab is sending, another one does not send, too", async () => {
    const [one, other] = [await tab(), await tab()];
    await one.kept.put(outgoing("a"));
    expect(await other.kept.load()).toEqual([]);
    expect(keys(await one.kept.load())).toEqual(["a"]);
});

test("what a tab that is gone has left, one of the others sends, in its order", async () => {
    const one = await tab();
    for (const key of ["c", "a", "b"]) await one.kept.put(outgoing(key));
    const [two, three] = [await tab(), await tab()];
    const adopted = [two, three].map(
        ({ tabs, kept }) =>
            new Promise<string[]>(
                (resolve) => (tabs.onGone = () => void kept.adopt().then(keys).then(resolve)),
            ),
    );
    locks.kill(one.tabs.id);
    const [byTwo, byThree] = await Promise.all(adopted);
    expect([...byTwo!, ...byThree!]).toEqual(["c", "a", "b"]);
});

test("a tab learns of those that open after it", async () => {
    const one = await tab();
    const gone = new Promise<void>((resolve) => (one.tabs.onGone = resolve));
    const other = await tab();
    await other.kept.put(outgoing("a"));
    // The word of the new tab is on its way.
    await vi.waitFor(() => {
        locks.kill(other.tabs.id);
        return Promise.race([gone, Promise.reject(new Error("not yet"))]);
    });
    expect(keys(await one.kept.adopt())).toEqual(["a"]);
});

test("two pages that open at once divide what is left", async () => {
    const before = await Kept.open(user);
    for (const key of ["a", "b"]) await before.put(outgoing(key));
    const pages = await Promise.all([tab(), tab()]);
    const loaded = await Promise.all(pages.map(({ kept }) => kept.load()));
    expect(loaded.flatMap(keys).sort()).toEqual(["a", "b"]);
});

test("one tab at a time is the one that does something, and the next one when it is closed", async () => {
    const [one, other] = [await tab(), await tab()];
    await one.tabs.elected("list");
    let isElected = false;
    void other.tabs.elected("list").then(() => (isElected = true));
    await Promise.resolve();
    expect(isElected).toBe(false);
    one.tabs.close();
    await vi.waitFor(() => expect(isElected).toBe(true));
});

test("a draft that is written in one tab is shown in the other, and shared once", async () => {
    const [one, other] = [await tab(), await tab()];
    const update = vi.fn(async () => ({ version: 1, archived: false, favourite: false }));
    const drafts = [one, other].map(({ tabs, kept }) => {
        const made = new Drafts({ updateOwnState: update }, kept, []);
        made.onChange = (chat, draft) => tabs.tell({ chat, draft });
        tabs.onWord = ({ chat, draft }) => made.show(chat, draft);
        return made;
    });
    drafts[0]!.set(CHAT, { body: "hello", replyTo: 3 });
    await vi.waitFor(() => expect(drafts[1]!.get(CHAT)).toEqual({ body: "hello", replyTo: 3 }));
    drafts[0]!.clear(CHAT);
    await vi.waitFor(() => expect(drafts[1]!.get(CHAT)).toEqual({ body: "" }));
});

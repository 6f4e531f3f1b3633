// The list of chats over a reload.
import type { Identity, socket } from "@posthouse/client";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Chats } from "../src/state/chats";
import { Kept } from "../src/state/kept";
import { ListKeeper } from "../src/state/list-keeper";
import { Tabs } from "../src/state/tabs";
import { Users } from "../src/state/users";
import { FakeLocks } from "./locks";
import { ANNA, CHAT, chatState, entry, ME, profile } from "./stand";

const OTHER = CHAT.replaceAll("3", "4");
let user: string;

beforeEach(() => {
    user = crypto.randomUUID();
    new FakeLocks().install();
});
afterEach(() => FakeLocks.remove());

const pageOf = (chats: socket.ChatState[], cursor: string, more = false): socket.SyncPage => ({
    ...{ chats, cursor, more, unread: 0, mentions: 0 },
});

async function page() {
    const tabs = await Tabs.open(user);
    const kept = await Kept.open(user, tabs);
    const chats = new Chats(ME);
    const users = new Users({ call: async () => profile(ANNA, "anna", "Anna") } as unknown as Identity);
    const keeper = new ListKeeper(kept, chats, users, tabs);
    const sync = (synced: socket.SyncPage) => {
        chats.take({ type: "synced", page: synced });
        keeper.synced(synced);
    };
    const push = (message: socket.Message) => chats.take({ type: "elsewhere", message });
    // It is elected in a moment, or another one is.
    await keeper.flush();
    return { tabs, kept, chats, users, keeper, sync, push };
}

const unread = (chats: Chats) => chats.get(CHAT)!.watermarks.unread;

test("a list is as it was, with what came after its last sync", async () => {
    const one = await page();
    const marks = { read_seq: 1, delivered_seq: 2, unread: 1, mentions: 0, counted_seq: 2 };
    one.users.take(profile(ANNA, "anna", "Anna"));
    one.sync(pageOf([chatState({ head_seq: 2, entries: [entry(2)], watermarks: marks })], "c1"));
    one.push(entry(3, { body: "later" }));
    await one.keeper.flush();
    const list = (await one.kept.list())!;
    expect(list.cursor).toBe("c1");
    expect(list.profiles).toMatchObject([{ user_id: ANNA }]);

    const again = new Chats(ME);
    again.recall(list, Date.now());
    expect(again.isComplete).toBe(true);
    expect(again.get(CHAT)).toEqual(one.chats.get(CHAT));
    expect(unread(again)).toBe(2);
    // The sync from the cursor says what is known already, and one thing more.
    again.take({
        type: "synced",
        page: pageOf(
            [
                chatState({
                    head_seq: 4,
                    entries: [entry(4)],
                    watermarks: { ...marks, unread: 3, counted_seq: 4 },
                }),
            ],
            "c2",
        ),
    });
    expect(unread(again)).toBe(3);
    expect(again.get(CHAT)!.entries[0]!.seq).toBe(4);
});

test("a cursor is not written before the last page of its sync", async () => {
    const one = await page();
    one.sync(pageOf([chatState()], "c1", true));
    await one.keeper.flush();
    expect(await one.kept.list()).toBeUndefined();
    one.sync(pageOf([chatState({ chat: OTHER })], "c2"));
    await one.keeper.flush();
    expect((await one.kept.list())!.chats).toHaveLength(2);
});

test("only what has changed is written, and a chat that was left goes", async () => {
    const one = await page();
    one.sync(pageOf([chatState(), chatState({ chat: OTHER })], "c1"));
    await one.keeper.flush();
    const write = vi.spyOn(one.kept, "keepList");
    one.push(entry(1));
    await one.keeper.flush();
    expect(write.mock.calls[0]![0].chats.map(({ chat }) => chat)).toEqual([CHAT]);
    one.push(entry(1, { chat: OTHER, kind: "member_removed", subject: ME }));
    await one.keeper.flush();
    expect((await one.kept.list())!.chats.map(({ chat }) => chat)).toEqual([CHAT]);
});

test("one tab writes, and the next one writes all of it when that is closed", async () => {
    const [one, other] = [await page(), await page()];
    one.sync(pageOf([chatState({ title: "of one" })], "c1"));
    other.sync(pageOf([chatState({ title: "of other" })], "c2"));
    await Promise.all([one.keeper.flush(), other.keeper.flush()]);
    expect((await one.kept.list())!.cursor).toBe("c1");
    one.keeper.close();
    one.tabs.close();
    await vi.waitFor(async () => {
        await other.keeper.flush();
        expect(await other.kept.list()).toMatchObject({ cursor: "c2", chats: [{ title: "of other" }] });
    });
});

test("a text that disappears is not written to the disk", async () => {
    const one = await page();
    const passing = entry(1, { body: "for an hour", expires_at_ms: Date.now() + 3_600_000 });
    one.sync(pageOf([chatState({ head_seq: 1, entries: [passing] })], "c1"));
    await one.keeper.flush();
    const list = (await one.kept.list())!;
    expect(JSON.stringify(list)).not.toContain("for an hour");
    expect(list.chats[0]!.entries[0]!.sent_at_ms).toBe(passing.sent_at_ms);
    expect(one.chats.get(CHAT)!.entries[0]!.body).toBe("for an hour");
});

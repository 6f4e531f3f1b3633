import { beforeEach, expect, test } from "vitest";
import { Kept } from "../src/state/kept";
import { Sends } from "../src/state/sends";
import { CHAT } from "./stand";

const TEXT = { kind: "text", body: "hello" } as const;
let kept: Kept;
let sends: Sends;

beforeEach(async () => {
    kept = await Kept.open(crypto.randomUUID());
    sends = new Sends({ send: () => new Promise(() => undefined) }, kept, { outgoing: [], refused: [] });
});

const states = () => sends.textsOf(CHAT).map(({ state }) => state);

test("a message has each state only when it is true", () => {
    sends.send(CHAT, TEXT, "k");
    expect(states()).toEqual(["waiting"]);
    sends.take({ type: "send", chat: CHAT, key: "k", state: { state: "accepted" } }, true);
    expect(states()).toEqual(["accepted"]);
    // Its entry is fetched: until then it stays on the screen.
    sends.take({ type: "send", chat: CHAT, key: "k", state: { state: "stored", seq: 7, resends: 0 } }, true);
    expect(states()).toEqual(["stored"]);
    sends.settle("k");
    expect(states()).toEqual([]);
});

test("a session that ends leaves a message waiting, and does not call it refused", () => {
    sends.send(CHAT, TEXT, "k");
    sends.take({ type: "send", chat: CHAT, key: "k", state: { state: "unknown" } }, true);
    expect(states()).toEqual(["waiting"]);
});

test("a refused message stays until its sender decides, over a reload too", async () => {
    sends.send(CHAT, TEXT, "k");
    sends.take({ type: "send", chat: CHAT, key: "k", state: { state: "failed", code: "slow_mode" } }, true);
    expect(sends.textsOf(CHAT)[0]).toMatchObject({ state: "refused", code: "slow_mode", post: TEXT });
    const refused = await kept.refused();
    const later = new Sends({ send: () => new Promise(() => undefined) }, kept, { outgoing: [], refused });
    expect(later.textsOf(CHAT)).toHaveLength(1);
    later.retry("k");
    expect(later.textsOf(CHAT)).toMatchObject([{ state: "waiting", post: TEXT }]);
    expect(later.textsOf(CHAT)[0]!.key).not.toBe("k");
    expect(await kept.refused()).toEqual([]);
});

test("a change that is refused is said, and not kept", () => {
    const said: unknown[] = [];
    sends.onRefusedChange = (notice) => said.push(notice);
    sends.send(CHAT, { kind: "react", seq: 3, emoji: "👍" }, "k");
    expect(sends.isChanging(CHAT, 3)).toBe(true);
    sends.take({ type: "send", chat: CHAT, key: "k", state: { state: "failed", code: "limit_reached" } }, true);
    expect(said).toEqual([{ chat: CHAT, kind: "react", code: "limit_reached" }]);
    expect(sends.isChanging(CHAT, 3)).toBe(false);
});

test("what was not known to be stored is kept in the order of its sending", async () => {
    const outgoing = (key: string) => ({ chat: CHAT, key, post: TEXT });
    for (const key of ["c", "a", "b"]) await kept.put(outgoing(key));
    await kept.remove("a");
    expect(await kept.load()).toEqual([outgoing("c"), outgoing("b")]);
});

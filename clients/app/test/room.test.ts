import { beforeEach, expect, test, vi } from "vitest";
import { QueryError, type socket } from "@posthouse/client";
import { Room } from "../src/state/room";
import { Stretch } from "../src/state/stretch";
import { CHAT, entry, lineOf, ME } from "./stand";

beforeEach(() => void vi.useFakeTimers());

const log = (count: number) => Array.from({ length: count }, (_, at) => entry(at + 1));
const seqs = (room: Room) => [room.entries[0]?.seq, room.entries.at(-1)?.seq];

/** A room with the last page, as the session hands it out. */
function opened(entries: socket.Message[]): { room: Room; line: ReturnType<typeof lineOf> } {
    const line = lineOf(entries);
    const room = new Room(CHAT, ME, line);
    room.open(1, entries.length);
    const after = line.follow.mock.calls[0]![1] as number;
    for (const message of entries.slice(after)) room.take(message);
    return { room, line };
}

test("a chat opens at its end and goes back page by page to where it begins", async () => {
    const { room, line } = opened(log(250));
    expect(seqs(room)).toEqual([151, 250]);
    await room.loadEarlier();
    await room.loadEarlier();
    expect(seqs(room)).toEqual([1, 250]);
    expect(room.hasEarlier).toBe(false);
    await room.loadEarlier();
    expect(line.history).toHaveBeenCalledTimes(2);
});

test("a reader who goes far back holds a bounded part, and comes back without a gap", async () => {
    const { room } = opened(log(3_000));
    for (let page = 0; page < 15; page += 1) {
        await room.loadEarlier();
        await vi.advanceTimersByTimeAsync(200);
    }
    expect(room.entries.length).toBeLessThanOrEqual(1_000);
    expect(room.isAtEnd).toBe(false);
    room.take(entry(3_001));
    while (!room.isAtEnd) {
        const before = room.entries.at(-1)!.seq;
        await room.loadLater();
        expect(room.entries.some(({ seq }) => seq === before + 1 || room.isAtEnd)).toBe(true);
        await vi.advanceTimersByTimeAsync(200);
    }
    const shown = room.entries.map(({ seq }) => seq);
    expect(shown.at(-1)).toBe(3_001);
    expect(shown).toEqual(shown.map((_, at) => shown[0]! + at));
});

test("a jump leads to a page around the message, and to the end again", async () => {
    const { room } = opened(log(500));
    expect(await room.goTo(50)).toBe(true);
    expect(room.get(50)?.body).toBe("text 50");
    expect(room.isAtEnd).toBe(false);
    room.take(entry(501));
    room.toEnd();
    expect(room.entries.at(-1)?.seq).toBe(501);
});

test("who goes elsewhere while a page is fetched stays where they went last", async () => {
    const entries = log(500);
    const { room, line } = opened(entries);
    let come: () => void = () => undefined;
    const holdNext = () => {
        const late = new Promise<void>((resolve) => (come = resolve));
        const { history } = lineOf(entries);
        line.history.mockImplementationOnce(async (query) => {
            await late;
            return history(query);
        });
    };
    holdNext();
    const first = room.goTo(50);
    expect(await room.goTo(300)).toBe(true);
    come();
    expect(await first).toBe(false);
    expect([room.isShown(50), room.isShown(300)]).toEqual([false, true]);

    // Who asks for it again, as a list does with each message that comes, waits for the same page.
    holdNext();
    const both = Promise.all([room.goTo(50), room.goTo(50)]);
    come();
    expect(await both).toEqual([true, true]);

    holdNext();
    const left = room.goTo(300);
    room.toEnd();
    come();
    expect([await left, room.isAtEnd]).toEqual([false, true]);
});

test("an edit that comes while the reader is elsewhere is seen there", async () => {
    const { room } = opened(log(500));
    await room.goTo(50);
    room.take(entry(501, { kind: "edit", target_seq: 50, body: "other" }));
    expect(room.get(50)?.body).toBe("other");
    expect(room.entries.at(-1)!.seq).toBeLessThan(200);
});

test("without a connection a page stays away, and the next attempt fetches it", async () => {
    const { room, line } = opened(log(250));
    line.history.mockRejectedValueOnce(new QueryError());
    await room.loadEarlier();
    expect(seqs(room)).toEqual([151, 250]);
    await room.loadEarlier();
    expect(seqs(room)).toEqual([51, 250]);
});

test("a page of before a change gets the change from what is here", () => {
    const stretch = new Stretch(ME, 3, [
        entry(3, { kind: "edit", target_seq: 1, body: "edited" }),
        entry(4, { kind: "reaction", target_seq: 2, body: "👍", sender: ME }),
    ]);
    stretch.prepend([entry(1), entry(2)]);
    expect(stretch.get(1)?.body).toBe("edited");
    expect(stretch.get(2)?.changes?.reactions).toEqual([{ emoji: "👍", count: 1, users: [ME], own: true }]);
    // A page that includes the change is not changed twice.
    const again = new Stretch(ME, 3, [entry(3, { kind: "reaction", target_seq: 2, body: "👍" })]);
    again.prepend([
        entry(1),
        entry(2, { changes: { seq: 3, reactions: [{ emoji: "👍", count: 1, users: [] }] } }),
    ]);
    expect(again.get(2)?.changes?.reactions?.[0]?.count).toBe(1);
});

test("what does not follow is not taken", () => {
    const stretch = new Stretch(ME, 1, [entry(1), entry(3), entry(2)]);
    expect(stretch.entries.map(({ seq }) => seq)).toEqual([1, 2]);
    stretch.prepend([entry(0)]);
    expect(stretch.from).toBe(0);
});

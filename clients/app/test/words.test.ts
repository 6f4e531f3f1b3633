import type { Identity } from "@posthouse/client";
import { expect, test } from "vitest";
import { href, placeOf, type Place } from "../src/place";
import { likeness } from "../src/state/lookalikes";
import { Users } from "../src/state/users";
import {
    callsIn,
    callsOffered,
    callsOfMessage,
    completed,
    completions,
    mentionedIn,
    wordAt,
} from "../src/text/mentions";
import { indexOf, rows } from "../src/ui/rows";
import { ANNA, CHAT, entry, ME, profile } from "./stand";

const MEMBERS = [profile(ANNA, "anna", "Анна Петрова"), profile(ME, "bob", "Bob")];

test("a name is completed where one is written, and nowhere else", () => {
    for (const [text, expected] of [
        ["hi @an", "an"],
        ["@", ""],
        ["mail@an", undefined],
        ["hi @an ", undefined],
        ["(@пет", "пет"],
    ] as const) {
        expect(wordAt(text, text.length), text).toBe(expected);
    }
    expect(completions("пет", MEMBERS)).toEqual([MEMBERS[0]]);
    expect(completed("hi @an there", 6, "anna")).toEqual({ text: "hi @anna there", caret: 9 });
    expect(mentionedIn("@anna, see @BOB. not mail@anna", MEMBERS)).toEqual([ANNA, ME]);
});

test("a word calls many, unless a member has that name", () => {
    expect(callsOffered("", MEMBERS)).toEqual(["all", "here", "owner", "admins"]);
    expect(callsOffered("A", MEMBERS)).toEqual(["all", "admins"]);
    expect(callsOffered(undefined, MEMBERS)).toEqual([]);
    expect(callsIn("@all, and @HERE. not mail@admins", MEMBERS)).toEqual({
        mentionAll: true,
        mentionHere: true,
    });
    expect(callsIn("@admins", MEMBERS)).toEqual({ mentionRoles: ["owner", "admin"] });
    expect(callsIn("@owner", MEMBERS)).toEqual({ mentionRoles: ["owner"] });
    expect(callsIn("@allies", MEMBERS)).toEqual({});
    const named = [...MEMBERS, profile(CHAT, "All", "Al L.")];
    expect(callsOffered("al", named)).toEqual([]);
    expect(callsIn("@all", named)).toEqual({});
    expect(callsOfMessage({ mentions_all: true, mention_roles: ["owner", "admin"] })).toEqual([
        "all",
        "owner",
        "admins",
    ]);
    expect(callsOfMessage({})).toEqual([]);
});

test("names that look alike have one likeness, and others have not", () => {
    for (const [one, other] of [
        ["Anna", "Аnnа"],
        ["Anna", " ANNA\u202e\u200b"],
        ["Alice", "AIice"],
        ["Martin", "Rnartin".replace("R", "r")],
        ["Ｐａｕｌ", "Pau1"],
        ["Zoe", "Z\u0351o\u0322e\u3164"],
        ["Ann P.", "AnnP"],
    ] as const) {
        expect(likeness(one), `${one} and ${other}`).toBe(likeness(other));
    }
    for (const [one, other] of [
        ["Anna", "Hanna"],
        ["Анна", "Инна"],
        ["Bob", "Rob"],
    ] as const) {
        expect(likeness(one), `${one} and ${other}`).not.toBe(likeness(other));
    }
    expect(likeness("\u200b ..")).toBe("");
});

test("who has a name like that of another is known, until one of them has another name", () => {
    const users = new Users({} as Identity);
    const eve = "55555555-5555-4555-8555-555555555555";
    users.take(profile(ANNA, "anna", "Anna"), profile(ME, "me", "Me"), profile(eve, "eve", "Аnna"));
    expect([ANNA, eve, ME].map((id) => users.isLikeAnother(id))).toEqual([true, true, false]);
    users.take(profile(eve, "eve", "Eve"));
    expect([ANNA, eve].map((id) => users.isLikeAnother(id))).toEqual([false, false]);
    users.take({ ...profile(eve, "", ""), deleted: true }, { ...profile(ME, "", ""), deleted: true });
    expect(users.isLikeAnother(eve)).toBe(false);
});

test("a place is an address, and back", () => {
    const places: Place[] = [
        {},
        { chat: CHAT },
        { chat: CHAT, at: 7 },
        { chat: CHAT, thread: 3, panel: "members" },
        { panel: "settings" },
    ];
    for (const place of places) expect(placeOf(href(place))).toEqual(place);
    for (const fragment of ["", "#password_reset=x", "#/chat/nonsense", "#/?panel=nonsense&at=-1"])
        expect(placeOf(fragment)).toEqual({});
});

test("what a change says is in what it changed, and has no row", () => {
    const log = [
        entry(1),
        entry(2, { kind: "reaction", target_seq: 1, body: "👍" }),
        entry(3),
        entry(4, { kind: "member_added", subject: ME }),
    ];
    const shown = rows(log, [], ME, 0);
    expect(shown.map(({ isFollowUp }) => isFollowUp)).toEqual([false, true, false]);
    expect(shown.map(({ isDayFirst }) => isDayFirst)).toEqual([true, false, false]);
    expect(indexOf(shown, 2)).toBe(1);
});

test("a message keeps its row when it becomes an entry, and is there once", () => {
    const own = entry(2, { sender: ME });
    const sending = {
        chat: CHAT,
        key: own.key,
        post: { kind: "text", body: "x" },
        state: "stored",
        at: 0,
    } as const;
    const before = rows([entry(1)], [sending], ME, 0);
    const after = rows([entry(1), own], [sending], ME, 0);
    expect(after).toHaveLength(2);
    expect(after[1]!.key).toBe(before[1]!.key);
});

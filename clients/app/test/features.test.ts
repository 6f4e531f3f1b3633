// What the parts of the state decide that stand behind screens: rights, sanctions, pins, contacts, pictures, moments.
import { CallError, socket, type Identity, type moderation } from "@posthouse/client";
import { expect, test, vi } from "vitest";
import { href, placeOf } from "../src/place";
import { copy } from "../src/shared/clipboard";
import { Avatars } from "../src/state/avatars";
import { Contacts } from "../src/state/contacts";
import { Notices } from "../src/state/notices";
import { Pins } from "../src/state/pins";
import { Previews } from "../src/state/previews";
import { Standing } from "../src/state/standing";
import { firstLink } from "../src/text/markup";
import { Texts } from "../src/text/texts";
import { closingKey } from "../src/ui/closings";
import { fromField, offeredMoments, toField } from "../src/ui/moments";
import { isPossible } from "../src/ui/moment-field";
import { codeKey } from "../src/ui/parts";
import { manages, maySetExpiry, mayRemove, mayWrite, rolesToGive } from "../src/ui/rights";
import { ANNA, CHAT, chatState, entry, ME, profile } from "./stand";

/** A user whose calls have these answers, by `METHOD path`; everything else is refused as `not_found`. */
function answering(answers: Record<string, unknown>): Identity & { call: ReturnType<typeof vi.fn> } {
    const problem = { type: "", title: "", status: 404, code: "not_found" as const };
    const call = vi.fn(async (method: string, path: string) => {
        const answer = answers[`${method} ${path}`];
        if (answer === undefined) throw new CallError("no", 404, problem);
        return answer;
    });
    return { user: ME, call } as unknown as Identity & { call: typeof call };
}

const sanction = (fields: Partial<moderation.Sanction>): moderation.Sanction => ({
    ...{ id: "s", user: ME, kind: "mute", note: "", created_at_ms: 0 },
    ...fields,
});

test("roles allow what the service chat allows them", () => {
    expect(rolesToGive("owner", "member")).toEqual(["admin", "owner"]);
    expect(rolesToGive("owner", "admin")).toEqual(["member", "owner"]);
    expect(rolesToGive("admin", "member")).toEqual([]);
    expect([mayRemove("admin", "member"), mayRemove("admin", "admin"), mayRemove("owner", "admin")]).toEqual([
        ...[true, false, true],
    ]);
    const channel = chatState({ kind: "channel", role: "member" });
    expect([mayWrite(channel), mayWrite({ ...channel, role: "admin" })]).toEqual([false, true]);
    const direct = chatState({ kind: "direct", other: ANNA });
    expect([manages(direct), maySetExpiry(direct)]).toEqual([false, true]);
    expect([maySetExpiry(chatState()), maySetExpiry(chatState({ role: "admin" }))]).toEqual([false, true]);
});

test("of several mutes the one that lasts longest counts, and one that is over or taken back is none", async () => {
    const lifted = { at_ms: 5, note: "" };
    const own = {
        sanctions: [
            sanction({ id: "over", until_ms: 1_000 }),
            sanction({ id: "lifted", lifted }),
            sanction({ id: "here", chat: CHAT, until_ms: 3_000 }),
            sanction({ id: "everywhere", until_ms: 4_000 }),
            sanction({ id: "elsewhere", chat: ANNA }),
            sanction({ id: "warning", kind: "warning" }),
        ],
        appeals: [],
        moderates: false,
    };
    const standing = new Standing(answering({ "GET /api/moderation/own": own }));
    await standing.load();
    expect(standing.muteIn(CHAT, 2_000)?.id).toBe("everywhere");
    expect(standing.muteIn(CHAT, 4_000)).toBeUndefined();
    expect(standing.muteIn(ANNA, 2_000)?.id).toBe("elsewhere");
});

test("a messenger without moderators has muted no one", async () => {
    const standing = new Standing(answering({}));
    await standing.load();
    expect(standing.muteIn(CHAT, 0)).toBeUndefined();
});

test("pins are fetched again when an entry changes them, once for several, and for nothing else", async () => {
    vi.useFakeTimers();
    const pinned = [entry(3, { changes: { seq: 5, pinned_seq: 5 } })];
    const session = { pins: vi.fn(async () => ({ chat: CHAT, messages: pinned, more: false })) };
    const pins = new Pins(session);
    pins.take(entry(5, { kind: "pin", target_seq: 3 }));
    await vi.runAllTimersAsync();
    expect(session.pins).not.toHaveBeenCalled();
    await pins.open(CHAT);
    expect(pins.of(CHAT)).toEqual(pinned);
    pins.take(entry(6));
    pins.take(entry(7, { kind: "delete", target_seq: 2 }));
    pins.take(entry(8, { kind: "edit", target_seq: 2 }));
    await vi.runAllTimersAsync();
    expect(session.pins).toHaveBeenCalledTimes(1);
    pins.take(entry(9, { kind: "unpin", target_seq: 3 }));
    pins.take(entry(10, { kind: "pin", target_seq: 4 }));
    await vi.runAllTimersAsync();
    expect(session.pins).toHaveBeenCalledTimes(2);
    vi.useRealTimers();
});

test("of two answers with the pins of a chat that of the later question counts", async () => {
    const answers: Array<(messages: socket.Message[]) => void> = [];
    const answered = (resolve: (page: socket.ListPage) => void) =>
        answers.push((messages) => resolve({ chat: CHAT, messages, more: false }));
    const pins = new Pins({ pins: () => new Promise<socket.ListPage>(answered) });
    const both = Promise.all([pins.open(CHAT), pins.open(CHAT)]);
    answers[1]!([entry(4)]);
    answers[0]!([entry(3)]);
    await both;
    expect(pins.of(CHAT)).toEqual([entry(4)]);
});

/** A user of a messenger whose first `late` answers are of the moment when they were asked for, and come once `come` is called. */
function lately(late: number, answer: (method: string, path: string, body: unknown) => unknown) {
    let come: () => void = () => undefined;
    const released = new Promise<void>((resolve) => (come = resolve));
    let asked = 0;
    const call = async (method: string, path: string, body?: unknown) => {
        const answered = answer(method, path, body);
        asked += 1;
        if (asked <= late) await released;
        return answered;
    };
    return { identity: { user: ME, call } as unknown as Identity, come };
}

test("a block that is made while blocks are fetched stays", async () => {
    const blocked: string[] = [];
    const { identity, come } = lately(2, (method, path) => {
        if (method === "PUT") return void blocked.push(ANNA);
        return { items: path.startsWith("/api/blocks") ? blocked.map((user_id) => ({ user_id })) : [] };
    });
    const contacts = new Contacts(identity);
    const loaded = contacts.load();
    await contacts.block(ANNA);
    come();
    await loaded;
    expect(contacts.isBlocked(ANNA)).toBe(true);
});

test("a wish that is set while wishes are fetched stays", async () => {
    let level: unknown = { level: "all", shows_text: true };
    const { identity, come } = lately(1, (method, _path, body) => (method === "PUT" ? (level = body) : level));
    const notices = new Notices(identity);
    const loaded = notices.loadPreferences();
    await notices.set({ level: "none", shows_text: true });
    come();
    await loaded;
    expect(notices.preferences?.level).toBe("none");
});

test("an appeal that is made while sanctions are fetched stays", async () => {
    const sanctions = [sanction({ id: "s" })];
    const appeals: unknown[] = [];
    const { identity, come } = lately(1, (method) => {
        const made = { id: "a", sanction: "s", state: "open", text: "no", user: ME, created_at_ms: 0 };
        if (method !== "POST") return { sanctions, appeals: [...appeals], moderates: false };
        appeals.push(made);
        return made;
    });
    const standing = new Standing(identity);
    const loaded = standing.load();
    await standing.appeal("s", "no");
    come();
    await loaded;
    expect(standing.appealOf("s")?.id).toBe("a");
});

test("what the browser does not copy is said, and is no fault", async () => {
    // A page over an open connection has no clipboard.
    vi.stubGlobal("navigator", {});
    expect(await copy("text")).toBe(false);
    const writeText = vi.fn(async () => undefined);
    vi.stubGlobal("navigator", { clipboard: { writeText } });
    expect(await copy("text")).toBe(true);
    writeText.mockRejectedValueOnce(new DOMException("no", "NotAllowedError"));
    expect(await copy("text")).toBe(false);
    vi.unstubAllGlobals();
});

test("contacts and blocks of many pages are all there, and a change is known at once", async () => {
    const contact = { added_at_ms: 0, name: "Captain", profile: profile(ANNA, "anna", "Anna") };
    const identity = answering({
        "GET /api/users/me/contacts?limit=100": { items: [], next_cursor: "a b" },
        "GET /api/users/me/contacts?limit=100&cursor=a%20b": { items: [contact] },
        "GET /api/blocks?limit=100": { items: [{ user_id: ME, blocked_at_ms: 0 }] },
        [`PUT /api/blocks/${ANNA}`]: null,
    });
    const contacts = new Contacts(identity);
    await contacts.load();
    expect([contacts.get(ANNA)?.name, contacts.isBlocked(ME), contacts.isBlocked(ANNA)]).toEqual([
        ...["Captain", true, false],
    ]);
    await contacts.block(ANNA);
    expect(contacts.isBlocked(ANNA)).toBe(true);
    await expect(contacts.unblock(ANNA)).rejects.toThrow(CallError);
    expect(contacts.isBlocked(ANNA)).toBe(true);
});

test("a picture is asked for once, and an address that shows nothing once more", async () => {
    const file = (at: number) => ({ links: { content: `/content/${at}`, expires_at_ms: 0 } });
    const identity = answering({ "POST /api/media/avatars": { items: [{ owner: ANNA, ...file(1) }] } });
    const avatars = new Avatars(identity);
    const of = { user: ANNA };
    avatars.want(of);
    avatars.want({ user: ANNA });
    await vi.waitFor(() => expect(avatars.get(of)).toBe("/content/1"));
    for (let attempt = 0; attempt < 3; attempt += 1) {
        avatars.lose(of);
        avatars.want(of);
        await vi.waitFor(() => expect(identity.call).toHaveBeenCalledTimes(2));
    }
    expect(avatars.get(of)).toBeUndefined();
    const none = { user: ME };
    avatars.want(none);
    await vi.waitFor(() => expect(identity.call).toHaveBeenCalledTimes(3));
    avatars.want(none);
    expect(identity.call).toHaveBeenCalledTimes(3);
});

test("the users of a screen are looked up together, and who has no picture is no refusal", async () => {
    const users = Array.from({ length: 130 }, (_, at) => `user-${at}`);
    const links = { content: "/content/7", expires_at_ms: 0 };
    const identity = answering({
        "POST /api/media/avatars": { items: [{ owner: "user-7", links }] },
        "GET /api/media/files/group": { links },
    });
    const avatars = new Avatars(identity);
    for (const user of users) avatars.want({ user });
    avatars.want({ file: "group" });
    await vi.waitFor(() => expect(avatars.get({ file: "group" })).toBe("/content/7"));
    const asked = identity.call.mock.calls.map(([method, path, body]) => [method, path, body]);
    expect(asked).toEqual([
        ["POST", "/api/media/avatars", { users: users.slice(0, 100) }],
        ["POST", "/api/media/avatars", { users: users.slice(100) }],
        ["GET", "/api/media/files/group", undefined],
    ]);
    expect(avatars.get({ user: "user-7" })).toBe("/content/7");
    expect(avatars.get({ user: "user-8" })).toBeUndefined();
});

test("a page that shows nothing has no preview, and is asked for once", async () => {
    const identity = answering({});
    const previews = new Previews(identity);
    previews.want("https://example.com/");
    await vi.waitFor(() => expect(identity.call).toHaveBeenCalledTimes(1));
    previews.want("https://example.com/");
    expect([identity.call.mock.calls.length, previews.get("https://example.com/")]).toEqual([1, undefined]);
});

test("the first link of a text is one that leads to a page, and never one in code", () => {
    for (const [text, expected] of [
        ["see https://a.example/x, and https://b.example", "https://a.example/x"],
        ["write to mailto:me@a.example then http://b.example", "http://b.example/"],
        ["`https://a.example`", undefined],
        ["[click](javascript:alert(1))", undefined],
        ["- one\n- **https://c.example**", "https://c.example/"],
    ] as const) {
        expect(firstLink(text), text).toBe(expected);
    }
});

test("a moment is the same in its field and back, and only one to come can be chosen", () => {
    const friday = new Date(2026, 10, 27, 22, 30).getTime();
    expect(fromField(toField(friday))).toBe(friday);
    expect(fromField("")).toBeUndefined();
    const { hour, tomorrow, monday } = offeredMoments(friday);
    expect([hour, tomorrow, monday].map((at) => toField(at))).toEqual([
        ...["2026-11-27T23:30", "2026-11-28T09:00", "2026-11-30T09:00"],
    ]);
    // On a Monday the next one is a week ahead.
    expect(toField(offeredMoments(new Date(2026, 10, 30, 8).getTime()).monday)).toBe("2026-12-07T09:00");
    expect([friday - 1, friday, friday + 1].map((at) => isPossible(at, friday))).toEqual([false, false, true]);
    expect(isPossible(friday + 367 * 86_400_000, friday)).toBe(false);
});

test("an invite link and a user are places, and back", () => {
    for (const place of [
        { invite: "4fT0b0m8Qx2d7cVq1sYw3A" },
        { panel: "user", user: ANNA },
        { chat: CHAT, panel: "about" },
    ] as const) {
        expect(placeOf(href(place))).toEqual(place);
    }
    expect(placeOf("#/join/../../x")).toEqual({});
});

test("every code of a refusal and of a closed connection has a text of its own", async () => {
    const english = await Texts.load("en");
    const codes = [
        ...([
            "malformed",
            "invalid_argument",
            "unauthenticated",
            "token_expired",
            "permission_denied",
        ] as const),
        ...(["not_a_member", "consent_required", "not_found", "no_such_file", "not_configured"] as const),
        ...(["method_not_allowed", "unsupported_media_type", "conflict", "cursor_expired"] as const),
        ...(["limit_reached", "idempotency_conflict", "too_large", "rate_limited", "slow_mode"] as const),
        ...(["unavailable", "internal"] as const),
    ];
    const texts = codes.map((code) => english.of(codeKey(code)));
    expect(new Set(texts).size).toBe(codes.length);
    const closings = Object.keys(socket.CLOSE_CODES).map((code) => closingKey(Number(code)));
    expect(new Set(closings.map((key) => english.of(key!))).size).toBe(closings.length);
    expect([closingKey(1006), closingKey(4999), codeKey("of a later release" as never)]).toEqual([
        ...[undefined, undefined, "error.fault"],
    ]);
});

test("time spans and lengths are written as contacts read them", async () => {
    const russian = await Texts.load("ru");
    expect([60, 3_600, 90_000, 604_800].map((seconds) => russian.span(seconds))).toEqual([
        ...["1 минута", "1 час", "25 часов", "1 неделя"],
    ]);
    expect([5_400, 65_000, 3_725_000].map((ms) => russian.length(ms))).toEqual(["0:05", "1:05", "1:02:05"]);
});

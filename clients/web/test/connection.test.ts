import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";
import {
    Identity,
    MemoryOutbox,
    Messenger,
    QueryError,
    SendError,
    Session,
    type Outgoing,
    type SessionOptions,
} from "@posthouse/client";

/** A socket whose other end is the test. */
class FakeSocket {
    static all: FakeSocket[] = [];
    readonly sent: Array<Record<string, unknown>> = [];
    onopen = () => {};
    onmessage: (event: { data: string }) => void = () => {};
    onclose: (event: { code: number; reason: string }) => void = () => {};
    onerror = () => {};
    protocol = "";

    constructor(
        _url: string,
        readonly offered: string[],
    ) {
        FakeSocket.all.push(this);
    }

    send(text: string): void {
        this.sent.push(JSON.parse(text) as Record<string, unknown>);
    }

    close(): void {}

    /** Says something to the client. */
    say(frame: unknown): void {
        this.onmessage({ data: JSON.stringify(frame) });
    }
}

const CONNECTED = {
    session: "s",
    user: "u",
    ping_seconds: 25,
    pong_seconds: 8,
    max_inflight: 4,
    max_frame_bytes: 65_536,
    max_body_bytes: 16_384,
    token_expires_in_seconds: 300,
};

const REAL_SOCKET = globalThis.WebSocket;

/** Why attempts failed. */
let reported: string[] = [];

/** The time of sessions. */
let clockMs = 0;

/** Lets time pass, and all go on that waits for it. */
async function pass(ms: number): Promise<void> {
    clockMs += ms;
    mock.timers.tick(ms);
    await turn();
}

beforeEach(() => {
    FakeSocket.all = [];
    reported = [];
    mock.timers.enable({ apis: ["setTimeout", "setInterval"] });
    // Each wait is as long as it may be.
    mock.method(Math, "random", () => 1);
    mock.method(performance, "now", () => clockMs);
    globalThis.WebSocket = FakeSocket as unknown as typeof WebSocket;
});

afterEach(() => {
    globalThis.WebSocket = REAL_SOCKET;
    mock.timers.reset();
    mock.restoreAll();
});

/** Lets all go on that waits for nothing but its turn. */
function turn(): Promise<void> {
    return new Promise((resolve) => setImmediate(resolve));
}

function lastSocket(): FakeSocket {
    const socket = FakeSocket.all.at(-1);
    assert.ok(socket, "it connects");
    return socket;
}

async function opened(options: SessionOptions = {}, tokenSeconds = 300): Promise<Session> {
    const tokens = {
        access_token: "a",
        refresh_token: "r",
        expires_in_seconds: tokenSeconds,
        refresh_expires_in_seconds: 900,
    };
    const session = new Session(new Identity(new Messenger("http://messenger.test"), "u", tokens), options);
    session.on("disconnected", ({ why }) => reported.push(why));
    await turn();
    return session;
}

async function connected(options: SessionOptions = {}): Promise<Session> {
    const session = await opened(options);
    lastSocket().onopen();
    lastSocket().say({ id: 1, result: { connected: CONNECTED } });
    return session;
}

for (const [code, reason] of [
    [3502, "stale"],
    [1006, ""],
] as const) {
    test(`each attempt that ends with ${code} is reported, and waits longer for the next one`, async () => {
        const session = await opened();
        let attempts = 1;
        for (const waitMs of [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]) {
            assert.equal(FakeSocket.all.length, attempts);
            lastSocket().onopen();
            lastSocket().onclose({ code, reason });
            assert.deepEqual(
                reported,
                Array.from({ length: attempts }, () => `closed: ${code} ${reason}`),
            );
            mock.timers.tick(waitMs - 1);
            await turn();
            assert.equal(FakeSocket.all.length, attempts, `not before ${waitMs} ms`);
            mock.timers.tick(1);
            await turn();
            attempts += 1;
        }
        session.close();
    });
}

test("an attempt without an answer is reported", async () => {
    const session = await opened();
    mock.timers.tick(10_000);
    assert.deepEqual(reported, ["no answer to connect"]);
    session.close();
});

test("an attempt without a token is reported", async () => {
    mock.method(globalThis, "fetch", () => Promise.reject(new TypeError("no route")));
    const session = await opened({}, 0);
    for (let turns = 0; reported.length === 0 && turns < 100; turns++) await turn();
    assert.match(reported[0] ?? "", /does not respond/);
    assert.equal(FakeSocket.all.length, 0);
    session.close();
});

test("what was asked on a connection that is lost is refused, and so is what is asked without one", async () => {
    const session = await connected();
    const isRefused = (error: unknown) => error instanceof QueryError && error.code === undefined;
    const asked = session.history({ chat: "c", limit: 10 });
    lastSocket().onclose({ code: 1006, reason: "" });
    await assert.rejects(asked, isRefused);
    await assert.rejects(session.history({ chat: "c", limit: 10 }), isRefused);
    session.close();
    await assert.rejects(session.pins("c"), isRefused);
});

test("where the browser makes no socket for the address, the session ends, and no message waits for it", async () => {
    globalThis.WebSocket = class {
        constructor() {
            throw new DOMException("the page is encrypted", "SecurityError");
        }
    } as unknown as typeof WebSocket;
    const outbox = new MemoryOutbox();
    const session = await opened({ outbox });
    await assert.rejects(
        session.send("c", "hello"),
        (error) => error instanceof SendError && error.code === undefined,
    );
    assert.equal((await outbox.load()).length, 1);
});

test("a session goes on at a cursor, and syncs when the program asks", async () => {
    const session = await connected({ cursor: "c0" });
    const synced = { chats: [], cursor: "c1", more: false, unread: 0, mentions: 0 };
    lastSocket().say({ id: 2, result: { synced } });
    session.sync();
    const syncs = lastSocket().sent.filter((frame) => "sync" in frame);
    assert.deepEqual(syncs, [
        { id: 2, sync: { cursor: "c0" } },
        { id: 3, sync: { cursor: "c1" } },
    ]);
    session.close();
});

test("a session speaks the encoding that the server chose of those that it offered", async () => {
    const session = await opened({ encoding: "cbor" });
    const socket = lastSocket();
    assert.deepEqual(socket.offered, ["posthouse.v1.cbor", "posthouse.v1.json"]);
    const sent: unknown[] = [];
    socket.send = (data: unknown) => void sent.push(data);
    socket.protocol = "posthouse.v1.cbor";
    socket.onopen();
    assert.ok(sent[0] instanceof Uint8Array);
    let why: string | undefined;
    session.on("ended", (event) => (why = event.why));
    socket.say({ id: 1, result: { connected: CONNECTED } });
    assert.match(why ?? "", /another protocol/);
});

for (const text of ["[]", "null", "1", "{"]) {
    test(`a server that says ${text} speaks another protocol`, async () => {
        const session = await connected();
        let why: string | undefined;
        session.on("ended", (event) => (why = event.why));
        lastSocket().onmessage({ data: text });
        assert.match(why ?? "", /another protocol/);
    });
}

/** An outbox that keeps a message when the test says so. */
class SlowOutbox extends MemoryOutbox {
    readonly asked = new Map<string, { keep: () => void; refuse: () => void }>();

    override async put(outgoing: Outgoing): Promise<void> {
        await new Promise<void>((keep, refuse) =>
            this.asked.set(outgoing.key, { keep, refuse: () => refuse(new Error("full")) }),
        );
        await super.put(outgoing);
    }
}

function sentKeys(): unknown[] {
    return lastSocket().sent.flatMap((frame) => ("send" in frame ? [(frame["send"] as Outgoing).key] : []));
}

test("messages go out in the order of the calls, however long the outbox takes", async () => {
    const outbox = new SlowOutbox();
    const session = await connected({ outbox });
    const sends = ["one", "two"].map((key) => session.send("c", key, key));
    for (const key of ["two", "one", "two"]) {
        await turn();
        outbox.asked.get(key)?.keep();
    }
    await turn();
    assert.deepEqual(sentKeys(), ["one", "two"]);
    for (const [at, key] of ["one", "two"].entries()) {
        lastSocket().say({ stored: { chat: "c", key, seq: at + 1, sent_at_ms: 0 } });
    }
    assert.deepEqual(
        (await Promise.all(sends)).map(({ seq }) => seq),
        [1, 2],
    );
    session.close();
});

test("a message that cannot be kept is not sent, and holds no other back", async () => {
    const outbox = new SlowOutbox();
    const session = await connected({ outbox });
    const one = assert.rejects(session.send("c", "one", "one"), /full/);
    const two = session.send("c", "two", "two");
    await turn();
    outbox.asked.get("one")?.refuse();
    await one;
    await turn();
    outbox.asked.get("two")?.keep();
    await turn();
    assert.deepEqual(sentKeys(), ["two"]);
    lastSocket().say({ stored: { chat: "c", key: "two", seq: 1, sent_at_ms: 0 } });
    assert.equal((await two).seq, 1);
    session.close();
});

test("two sends with one key are one message with one outcome", async () => {
    const session = await connected();
    const sends = [session.send("c", "hi", "k"), session.send("c", "hi", "k")];
    await turn();
    assert.deepEqual(sentKeys(), ["k"]);
    lastSocket().say({ stored: { chat: "c", key: "k", seq: 4, sent_at_ms: 0 } });
    assert.deepEqual(
        (await Promise.all(sends)).map(({ seq }) => seq),
        [4, 4],
    );
    session.close();
});

/** Loses the connection, and attempts until the next one is half a minute away. */
async function farFromTheNext(): Promise<Session> {
    const session = await opened();
    for (const waitMs of [1_000, 2_000, 4_000, 8_000, 16_000]) {
        lastSocket().onclose({ code: 1006, reason: "" });
        await pass(waitMs);
    }
    lastSocket().onclose({ code: 1006, reason: "" });
    await pass(100);
    return session;
}

test("who wakes a session does not wait for its next attempt, and those after it follow soon", async () => {
    const session = await farFromTheNext();
    const before = FakeSocket.all.length;
    session.wake();
    await turn();
    assert.equal(FakeSocket.all.length, before + 1);
    // A network that is said to be back may not be there yet.
    lastSocket().onclose({ code: 1006, reason: "" });
    await pass(1_000);
    assert.equal(FakeSocket.all.length, before + 2);
    lastSocket().onopen();
    lastSocket().say({ id: 1, result: { connected: CONNECTED } });
    await pass(60_000);
    assert.equal(FakeSocket.all.length, before + 2, "the attempt that was put forward is not made again");
    session.close();
});

test("a network that comes and goes costs an attempt in three seconds", async () => {
    const session = await farFromTheNext();
    // Those that follow a wake by themselves are out of the way.
    mock.method(Math, "random", () => 100);
    const before = FakeSocket.all.length;
    for (let count = 0; count < 29; count += 1) {
        session.wake();
        await turn();
        lastSocket().onclose({ code: 1006, reason: "" });
        await pass(200);
    }
    assert.equal(FakeSocket.all.length, before + 2, "in six seconds");
    session.close();
});

test("who wakes a session that connects has no second attempt", async () => {
    const session = await opened();
    session.wake();
    await pass(1);
    session.wake();
    await pass(3_000);
    assert.equal(FakeSocket.all.length, 1);
    session.close();
});

const ANSWERS = [
    { result: { refreshed: { token_expires_in_seconds: 200 } } },
    { error: { code: "unavailable", detail: "the token cannot be checked now", temporary: true } },
];
for (const answer of ANSWERS) {
    test(`a connection that answers a wake with ${JSON.stringify(answer)} stays`, async () => {
        const session = await connected();
        session.wake();
        session.wake();
        const asked = lastSocket().sent.filter((frame) => "refresh" in frame);
        assert.deepEqual(asked, [{ id: 3, refresh: { token: "a" } }]);
        await pass(100);
        lastSocket().say({ id: 3, ...answer });
        await pass(4_900);
        assert.deepEqual([FakeSocket.all.length, reported], [1, []]);
        assert.equal(
            lastSocket().sent.some((frame) => "refresh" in frame && frame["id"] !== 3),
            false,
            "the second wake has its answer, too",
        );
        session.close();
    });
}

test("a connection that is dead is replaced in five seconds once the session is woken", async () => {
    const session = await connected();
    await pass(10_000);
    session.wake();
    await pass(4_800);
    assert.deepEqual(reported, []);
    await pass(200);
    assert.deepEqual(reported, ["the server fell silent"]);
    await pass(1_000);
    assert.equal(FakeSocket.all.length, 2);
    session.close();
});

test("a session that has ended is not woken", async () => {
    const session = await connected();
    session.close();
    session.wake();
    await pass(60_000);
    assert.equal(FakeSocket.all.length, 1);
});

// `@stomp/stompjs` as it is published, at a gateway.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { Versions } from "@stomp/stompjs";
import {
    brokerUrl,
    Dev,
    Followed,
    groups,
    json,
    Messenger,
    newUser,
    pair,
    PASSWORD,
    StompUser,
    until,
    Way,
} from "./users.js";

let dev;
/** A connection that says nothing from the first test on. */
let quiet;
before(async () => {
    dev = await Dev.start();
    quiet = new StompUser(dev.url, await newUser(dev.url), undefined, {
        heartbeatIncoming: 1_000,
        heartbeatOutgoing: 1_000,
        // The library ends a connection by which nothing came for one interval.
        heartbeatToleranceMultiplier: 1,
    });
    quiet.client.activate();
});
after(async () => {
    await quiet?.client.deactivate({ force: true });
    await dev?.kill();
});

/** What headers and bodies may have, and lines and JSON may not. */
const SPECIAL = 'colon: "quoted" \\ backslash \n\r\n end \u{1f600}';

for (const [versions, spoken] of [
    [["1.2", "1.1", "1.0"], "1.2"],
    [["1.1", "1.0"], "1.1"],
    [["1.0"], "1.0"],
]) {
    test(`a library that has ${versions.join(", ")} speaks ${spoken}`, async (t) => {
        const { ann, ben, chat } = await pair(dev);
        const b = json(t, ben, chat);
        const a = await new StompUser(dev.url, ann, undefined, {
            stompVersions: new Versions(versions),
        }).connected(t);
        assert.equal(a.client.connectedVersion, spoken);
        const messages = [];
        let subscription;
        await a.receipt((receipt) => {
            const headers = { ack: "client", receipt };
            subscription = a.client.subscribe("/chats", (message) => messages.push(message), headers);
        }, "subscribed");
        await b.session.send(chat, `by ${spoken}`);
        await until("it comes", () => messages.length === 1);
        assert.equal(JSON.parse(messages[0].body).message.body, `by ${spoken}`);
        await a.receipt((receipt) => messages[0].ack({ receipt }), "acknowledged");
        a.publish(chat, "and back");
        await until("the other has it", () => b.bodies.at(-1) === "and back");
        await a.receipt((receipt) => subscription.unsubscribe({ receipt }), "unsubscribed");
        await a.client.deactivate();
        assert.deepEqual([a.errors, a.closes], [[], [1000]]);
    });
}

test("a user with STOMP and one with JSON talk, and each has every message once and in order", async (t) => {
    const { ann, ben, chat } = await pair(dev);
    const b = json(t, ben, chat);
    const a = await new StompUser(dev.url, ann).connected(t);
    const received = [];
    await a.receipt((receipt) => {
        const headers = { id: `chat: ${SPECIAL}`, receipt };
        a.client.subscribe(`/chats/${chat}`, (message) => received.push(message), headers);
    }, "it\\is: subscribed");
    const said = (who) => Array.from({ length: 100 }, (_, n) => `${who} ${n}: ${SPECIAL}\0`);
    said("ann").forEach((body) => a.publish(chat, body));
    await Promise.all(said("ben").map((body) => b.session.send(chat, body)));
    await until("both have all", () => b.bodies.length >= 200 && received.length >= 200);

    const entries = received.map(({ body }) => JSON.parse(body).message);
    const order = Array.from({ length: 200 }, (_, n) => n + 1);
    assert.deepEqual(
        entries.map(({ seq }) => seq),
        order,
    );
    assert.deepEqual(b.seqs, order);
    assert.deepEqual(
        entries.map(({ body }) => body),
        b.bodies,
    );
    for (const [identity, who] of [
        [ann, "ann"],
        [ben, "ben"],
    ]) {
        const own = entries.filter(({ sender }) => sender === identity.user).map(({ body }) => body);
        assert.deepEqual(own, said(who));
    }
    for (const { headers } of received) assert.equal(headers.subscription, `chat: ${SPECIAL}`);
    assert.deepEqual(
        received.map(({ headers }) => headers["message-id"]),
        order.map((seq) => `${chat}.${seq}`),
    );
    assert.deepEqual(a.errors, []);
});

test("a receipt says that a message is accepted, and a reply that it is stored", async (t) => {
    const { ann, ben, chat } = await pair(dev);
    const b = json(t, ben, chat);
    const a = await new StompUser(dev.url, ann, (user) => user.readReplies()).connected(t);
    const key = crypto.randomUUID();
    await a.receipt(() => a.publish(chat, "hello", key), key);
    await until("it is stored", () => a.replies.length > 0);
    assert.deepEqual([a.replies[0].type, a.replies[0].stored.key, a.replies[0].stored.seq], ["stored", key, 1]);
    // The same key is the same message.
    await a.receipt(() => a.publish(chat, "hello", key), key);
    await until("it is said again", () => a.replies.length > 1);
    assert.equal(a.replies[1].stored.seq, 1);
    a.publish(chat, "and then");
    await until("the other has it", () => b.bodies.includes("and then"));
    assert.deepEqual(b.bodies, ["hello", "and then"]);
});

test("an acknowledgement moves what others see as delivered, also behind the end of its subscription", async (t) => {
    const { ann, ben, chat } = await pair(dev);
    const b = json(t, ben, chat);
    const marks = [];
    b.session.on("marked", ({ receipt }) => receipt.user === ann.user && marks.push(receipt.delivered_seq));
    const a = await new StompUser(dev.url, ann).connected(t);
    const messages = [];
    let subscription;
    await a.receipt((receipt) => {
        const headers = { ack: "client-individual", receipt };
        subscription = a.client.subscribe("/chats", (message) => messages.push(message), headers);
    });
    for (const body of ["one", "two", "three"]) await b.session.send(chat, body);
    await until("all are here", () => messages.length === 3);
    messages[0].ack();
    await until("the first is delivered", () => marks.includes(1));
    await a.receipt((receipt) => messages[1].nack({ receipt }));
    // As of a program that closes a tab while it works on what came.
    subscription.unsubscribe();
    await a.receipt((receipt) => messages[2].ack({ receipt }));
    await until("the last is delivered", () => marks.includes(3));
    assert.deepEqual([marks, a.errors, a.connections], [[1, 3], [], 1]);
});

test("what a user has read and who is there comes to those who subscribe to it", async (t) => {
    const { ann, ben, chat } = await pair(dev);
    const b = json(t, ben, chat);
    const [states, presence] = [[], []];
    const a = await new StompUser(dev.url, ann, (user) => {
        user.readReplies();
        user.client.subscribe("/states", (message) => states.push(JSON.parse(message.body)));
    }).connected(t);
    await a.receipt(() => a.publish(chat, "hello", chat), chat);
    await until("the other has it", () => b.seqs.includes(1));
    b.session.read(chat, 1);
    await until("it is read", () => states.some(({ receipt }) => receipt?.read_seq === 1));
    // While the gateway looks for the presence service, it refuses.
    await until("the other is seen", async () => {
        const headers = { id: "presence", users: ben.user };
        const refusals = a.replies.length;
        a.client.subscribe("/presence", (message) => presence.push(JSON.parse(message.body)), headers);
        await until("an answer", () => presence.length > 0 || a.replies.length > refusals);
        if (presence.length === 0) a.client.unsubscribe("presence");
        return presence.length > 0;
    });
    assert.equal(presence[0].presence.users[0].user, ben.user);
});

test("a library that loses its network comes back by itself, and nothing is lost or doubled", async (t) => {
    const way = await Way.to(dev.port);
    t.after(() => way.close());
    const { ann, ben, chat } = await pair(dev, way);
    const b = json(t, ben, chat);
    const followed = new Followed(chat);
    const a = await new StompUser(way.url, ann, (user) => followed.begin(user)).connected(t);
    await b.session.send(chat, "one");
    await until("it comes", () => followed.bodies.length === 1);
    // What the gateway says is lost, and what the library says arrives.
    way.deafen();
    const key = a.publish(chat, "two");
    await until("the other has it", () => b.bodies.includes("two"));
    way.cut();
    await b.session.send(chat, "three");
    await until("the library is back", () => a.connections === 2);
    a.publish(chat, "two", key);
    await b.session.send(chat, "four");
    const all = ["one", "two", "three", "four"];
    await until("all are here", () => followed.bodies.length >= all.length && b.bodies.length >= all.length);
    assert.deepEqual([followed.bodies, b.bodies], [all, all]);
    assert.deepEqual(a.errors, []);
});

test("a library whose session is ended by the server comes back with the token of another one", async (t) => {
    const { ben, chat, ann, name } = await named();
    const b = json(t, ben, chat);
    const followed = new Followed(chat);
    const a = await new StompUser(dev.url, ann, (user) => followed.begin(user)).connected(t);
    await b.session.send(chat, "before");
    await until("it comes", () => followed.bodies.length === 1);
    a.identity = await new Messenger(dev.url).signIn(name, PASSWORD);
    await ann.signOut();
    const during = Array.from({ length: 20 }, (_, n) => `during ${n}`);
    for (const body of during) await b.session.send(chat, body);
    await until("the library is back", () => a.connections === 2);
    await b.session.send(chat, "after");
    const all = ["before", ...during, "after"];
    await until("all are here", () => followed.bodies.length >= all.length);
    assert.deepEqual([followed.bodies, a.closes], [all, [3505]]);
});

/** Two users of whom the first one's name is known, and a chat of both. */
async function named() {
    const name = `named-${Date.now().toString(36)}`;
    await new Messenger(dev.url).register(name, PASSWORD);
    const [ann, ben] = [await new Messenger(dev.url).signIn(name, PASSWORD), await newUser(dev.url)];
    const chat = (await ann.createChat({ kind: "direct", members: [ben.user] })).chat_id;
    return { name, ann, ben, chat };
}

test("a library whose server ends comes to the next one", async (t) => {
    const other = await Dev.start();
    t.after(() => other.kill());
    const a = await new StompUser(other.url, await newUser(other.url), (user) => user.readReplies(), {
        // The WebSocket of Node 20 never ends where no server is, so the library has to give it up.
        connectionTimeout: 500,
        discardWebsocketOnCommFailure: true,
    }).connected(t);
    await other.kill();
    await until("it is noticed", () => a.closes.length > 0);
    await other.run();
    // Nothing is kept in memory, nor are users.
    a.identity = await newUser(other.url);
    await until("the library is back", () => a.connections === 2);
    a.command({ id: 7, sync: {} });
    await until("it is served", () => a.replies.some(({ result }) => result?.synced));
});

const REFUSED = 1008;
const group = (of, members = []) => of.createChat({ kind: "group", title: "Tea", members });

for (const [what, frame, code, closed = REFUSED] of [
    ["a subscription to what is not there", (a) => a.client.subscribe("/topic/a", () => {}), "not_found"],
    ["a message to what is not there", (a) => a.client.publish({ destination: "/queue/a" }), "not_found"],
    [
        "a message without a key",
        (a, chat) => a.client.publish({ destination: `/chats/${chat}` }),
        "invalid_argument",
    ],
    ["a message to a chat of others", (a, _, others) => a.publish(others, "hello"), "not_a_member"],
    ["a transaction", (a) => a.client.begin(), "method_not_allowed"],
    ["a message of a transaction", (a, chat) => publishIn(a, chat, "t"), "method_not_allowed"],
    ["the end of no subscription", (a) => a.client.unsubscribe("none"), "not_found"],
    [
        "an acknowledgement without a subscription",
        (a, chat) => a.client.ack(`${chat}.1`, "none"),
        "invalid_argument",
    ],
    ["a second subscription to a destination", twice, "invalid_argument"],
    [
        "an unknown kind of acknowledgement",
        (a) => a.client.subscribe("/chats", () => {}, { ack: "x" }),
        "malformed",
        3501,
    ],
]) {
    test(`${what} is refused with an ERROR, behind which the library connects again`, async (t) => {
        const { ann, ben, chat } = await pair(dev);
        const others = (await group(ben)).chat_id;
        const a = await new StompUser(dev.url, ann).connected(t);
        frame(a, chat, others);
        await until("it is refused", () => a.errors.length > 0 && a.closes.length > 0);
        const [{ headers, error }] = a.errors;
        assert.deepEqual([headers.message, error.code, a.closes[0]], [code, code, closed]);
        await until("the library is back", () => a.connections === 2);
        await a.receipt(() => a.publish(chat, "still here", chat), chat);
    });
}

function publishIn(a, chat, transaction) {
    const headers = { key: crypto.randomUUID(), transaction };
    a.client.publish({ destination: `/chats/${chat}`, headers, body: "hello" });
}

function twice(a) {
    a.client.subscribe("/chats", () => {});
    a.client.subscribe("/chats", () => {});
}

test("with its replies a library reads of what is refused, and its connection goes on", async (t) => {
    const { ann, ben, chat } = await pair(dev);
    const others = (await group(ben)).chat_id;
    const a = await new StompUser(dev.url, ann, (user) => user.readReplies()).connected(t);
    const key = a.publish(others, "hello");
    a.client.subscribe("/topic/a", () => {}, { receipt: "topic" });
    await until("both are refused", () => a.replies.length === 2);
    const refusals = a.replies.map(({ type, id, error }) => [type, id, error.code]);
    assert.deepEqual(
        refusals.sort(),
        [
            ["error", key, "not_a_member"],
            ["error", "topic", "not_found"],
        ].sort(),
    );
    await a.receipt(() => a.publish(chat, "still here", chat), chat);
    assert.deepEqual([a.connections, a.errors], [1, []]);
});

test("a token that is not taken is an ERROR before the connection ends", async (t) => {
    const ann = await newUser(dev.url);
    const forged = { token: () => Promise.resolve("forged") };
    const a = new StompUser(dev.url, forged);
    t.after(() => a.client.deactivate({ force: true }));
    a.client.activate();
    await until("it is refused", () => a.errors.length > 0 && a.closes.length > 0);
    assert.deepEqual([a.errors[0].error.code, a.closes[0], a.connections], ["unauthenticated", 3500, 0]);
    // The library tries again, and is in once it has a token.
    a.identity = ann;
    await until("it is connected", () => a.connections === 1);
});

test("a subscription to a chat of others brings nothing until the user is a member", async (t) => {
    const { ann, ben, chat } = await pair(dev);
    const tea = (await group(ben)).chat_id;
    const b = json(t, ben, tea);
    const a = await new StompUser(dev.url, ann).connected(t);
    const [received, own] = [[], []];
    await a.receipt((receipt) => {
        a.client.subscribe(`/chats/${tea}`, ({ body }) => received.push(JSON.parse(body).message), { receipt });
    });
    await a.receipt((receipt) => {
        a.client.subscribe(`/chats/${chat}`, ({ body }) => own.push(JSON.parse(body).message), { receipt });
    });
    await b.session.send(tea, "among us");
    await b.session.send(chat, "to you");
    await until("what comes behind it is here", () => own.length === 1);
    assert.deepEqual(received, []);
    await groups.addMembers(ben, tea, [ann.user]);
    await b.session.send(tea, "welcome");
    await until("it comes", () => received.some(({ body }) => body === "welcome"));
    assert.ok(received.every(({ body }) => body !== "among us"));
});

test("the program of the docs talks", async (t) => {
    const shown = readFileSync("../../docs/stomp.md", "utf8").split("```js\n")[1]?.split("```")[0];
    assert.equal(shown, readFileSync("examples/stompjs.js", "utf8"));
    const { ann, ben, chat } = await pair(dev);
    const b = json(t, ben, chat);
    const env = {
        ...process.env,
        BROKER_URL: brokerUrl(dev.url),
        ACCESS_TOKEN: await ann.token(),
        DEVICE: crypto.randomUUID(),
        CHAT: chat,
    };
    const options = process.execArgv.filter((option) => option.includes("websocket"));
    const stdio = ["ignore", "pipe", "inherit"];
    const program = spawn(process.execPath, [...options, "examples/stompjs.js"], { env, stdio });
    t.after(() => program.kill());
    let printed = "";
    program.stdout.on("data", (data) => (printed += data));
    await until("the other has it", () => b.bodies.includes("hello"));
    await until("it is stored", () => /^stored /m.test(printed) && /^message .*"hello"/m.test(printed));
    await b.session.send(chat, "hello to you");
    await until("it comes", () => /^message .*"hello to you"/m.test(printed));
});

test("heart-beats keep a quiet connection longer than their interval", { timeout: 120_000 }, async () => {
    // Their interval is 25 s, and the first comes after a part of it.
    while (quiet.beats < 2 && quiet.closes.length === 0)
        await new Promise((resolve) => setTimeout(resolve, 100));
    assert.deepEqual([quiet.connections, quiet.closes, quiet.errors], [1, [], []]);
    assert.equal(quiet.client.connected, true);
});

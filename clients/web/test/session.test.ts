import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import {
    CallError,
    ChatList,
    MemoryOutbox,
    SendError,
    Session,
    View,
    type Identity,
    type SessionOptions,
    type socket,
} from "@posthouse/client";
import { Dev, observed, newUser, until, Way } from "./dev.js";

let dev: Dev;
before(async () => {
    dev = await Dev.start();
});
after(() => dev.kill());

/** Two users, a chat of both, and a way that the first one takes. */
async function pair() {
    const way = await Way.to(dev.port);
    const [ann, ben] = [await newUser(way.url), await newUser(dev.url)];
    const chat = (await ann.createChat({ kind: "direct", members: [ben.user] })).chat_id;
    return { way, ann, ben, chat };
}

/** What a session receives of how far users have come. */
function marksSeen(session: Session): socket.Receipt[] {
    const seen: socket.Receipt[] = [];
    session.on("marked", ({ receipt }) => seen.push(receipt));
    return seen;
}

function isRead(user: string, seq: number): (receipt: socket.Receipt) => boolean {
    return (receipt) => receipt.user === user && receipt.read_seq === seq;
}

/** A session with what syncs say of one chat. */
function statesOf(session: Session, chat: string) {
    const seen: socket.ChatState[] = [];
    session.on("synced", ({ page }) => seen.push(...page.chats.filter((state) => state.chat === chat)));
    return { session, seen };
}

test("two users talk, and each has every entry once and in order", async () => {
    const { way, ann, ben, chat } = await pair();
    const [a, b] = [observed(ann, chat), observed(ben, chat, { encoding: "cbor" })];
    try {
        for (let n = 1; n <= 10; n++) {
            const receipt = await (n % 2 ? a : b).session.send(chat, `message ${n}`);
            assert.equal(receipt.seq, n);
        }
        const expected = Array.from({ length: 10 }, (_, n) => `message ${n + 1}`);
        await until("both have all", () => a.seqs.length >= 10 && b.seqs.length >= 10);
        assert.deepEqual([a.bodies, b.bodies], [expected, expected]);
        // The answer may come after the message is stored, and then says nothing new.
        const states = a.states.filter((state) => state !== "accepted");
        assert.deepEqual(states, Array.from({ length: 5 }, () => ["sending", "stored"]).flat());
    } finally {
        a.session.close();
        b.session.close();
        way.close();
    }
});

test("what a client has after edits, reactions, replies, pins and deletions is what a new device fetches", async () => {
    const { way, ann, ben, chat } = await pair();
    const [a, b] = [new Session(ann, { encoding: "cbor" }), new Session(ben)];
    const live = new View(ann.user);
    a.on("entry", ({ message }) => live.apply(message));
    a.follow(chat);
    let late: Session | undefined;
    try {
        await a.send(chat, "first");
        await b.send(chat, { kind: "text", body: "a reply", replyTo: 1 });
        await a.send(chat, { kind: "edit", seq: 1, body: "first, edited" });
        await b.send(chat, { kind: "react", seq: 1, emoji: "👍" });
        await a.send(chat, { kind: "react", seq: 1, emoji: "👍" });
        await b.send(chat, { kind: "react", seq: 1, emoji: "👍", remove: true });
        await a.send(chat, { kind: "pin", seq: 1 });
        await b.send(chat, { kind: "delete", seq: 2 });
        await until("all are here", () => live.entries.size >= 8);
        const fetched = new View(ann.user);
        late = new Session(ann);
        late.on("entry", ({ message }) => fetched.apply(message));
        late.follow(chat);
        await until("all are fetched", () => fetched.entries.size >= 8);
        const messages = (view: View) => [1, 2].map((seq) => view.entries.get(seq));
        const shown = (view: View) =>
            messages(view).map((message) => [
                message?.body,
                message?.changes?.edits,
                message?.changes?.replies ?? 0,
                message?.changes?.pinned_seq,
                message?.changes?.deleted_seq,
                message?.changes?.reactions,
            ]);
        assert.deepEqual(shown(live), shown(fetched));
        const one = live.entries.get(1);
        assert.equal(one?.body, "first, edited");
        assert.deepEqual(one?.changes?.reactions, [{ emoji: "👍", count: 1, own: true, users: [ann.user] }]);
        assert.equal(live.entries.get(2)?.body, "");
    } finally {
        a.close();
        b.close();
        late?.close();
        way.close();
    }
});

test("ranges, forwards, calls and lists are the same live and fetched", async () => {
    const { way, ann, ben, chat } = await pair();
    const group = (await ann.createChat({ kind: "group", title: "Tea", members: [ben.user] })).chat_id;
    const [a, b] = [new Session(ann), new Session(ben)];
    const live = new View(ben.user);
    b.on("entry", ({ message }) => live.apply(message));
    b.follow(group);
    let late: Session | undefined;
    try {
        const source = await b.send(chat, "see you at four");
        // The group begins with the entries that added its members, if it has any.
        const { seq: first } = await a.send(group, "first");
        await b.send(group, { kind: "text", body: "a reply", replyTo: first });
        await b.send(group, { kind: "text", body: "another", replyTo: first });
        await a.send(group, { kind: "pin", seq: first });
        await a.send(group, { kind: "pin", seq: first + 1 });
        const called = await b.send(group, {
            kind: "text",
            body: "anyone?",
            mentions: [ann.user],
            mentionRoles: ["owner"],
            mentionHere: true,
            silent: true,
        });
        const forwarded = await a.send(group, { kind: "forward", fromChat: chat, fromSeq: source.seq });
        const pins = await b.pins(group);
        assert.deepEqual([pins.messages.map(({ seq }) => seq), pins.more], [[first + 1, first], false]);
        assert.equal((await b.pins(group, { limit: 1 })).more, true);
        const deletion = { kind: "delete_range", fromSeq: first, toSeq: first + 50 } as const;
        await b.send(group, deletion);
        await assert.rejects(b.send(group, { ...deletion, sender: ann.user }), { code: "permission_denied" });
        const last = await a.send(group, "last");
        await until("all are here", () => live.entries.has(last.seq));
        assert.equal(live.entries.get(first)?.body, "first", "it deletes one's own");
        assert.equal(live.entries.get(first)?.changes?.replies, undefined);
        assert.equal(live.entries.get(called.seq)?.body, "");
        assert.deepEqual(live.entries.get(called.seq)?.mentions, [ann.user]);
        const text = live.entries.get(forwarded.seq);
        assert.deepEqual([text?.body, text?.forwarded?.sender], ["see you at four", ben.user]);

        const fetched = new View(ben.user);
        late = new Session(ben);
        late.on("entry", ({ message }) => fetched.apply(message));
        late.follow(group);
        await until("all are fetched", () => fetched.entries.has(last.seq));
        // How far a message was changed is counted when it is.
        const shown = (view: View) =>
            [...view.entries.values()].map(({ changes, ...message }) => ({
                ...message,
                ...changes,
                seq: message.seq,
            }));
        assert.deepEqual(shown(live), shown(fetched));

        const replies = await b.replies(group, first);
        const ofReplies = replies.messages.map(({ seq, body }) => [seq, body]);
        assert.deepEqual(ofReplies, [
            [first + 1, ""],
            [first + 2, ""],
        ]);
        assert.deepEqual(
            (await b.pins(group)).messages.map(({ seq }) => seq),
            [first],
        );
        const since = await b.history({ chat: group, from_ms: text?.sent_at_ms ?? 0, limit: 1 });
        assert.equal(since.messages.length, 1);
        await assert.rejects(b.replies(group, last.seq + 5), { code: "not_found" });
    } finally {
        a.close();
        b.close();
        late?.close();
        way.close();
    }
});

test("a message whose answers were lost is sent again under its key and stored once", async () => {
    const { way, ann, ben, chat } = await pair();
    const [a, b] = [observed(ann, chat), observed(ben, chat)];
    try {
        await a.session.send(chat, "before");
        way.deafen();
        const sent = a.session.send(chat, "lost and found");
        await until("the other has it", () => b.bodies.includes("lost and found"));
        way.cut();
        const receipt = await sent;
        assert.deepEqual([receipt.seq, receipt.resends], [2, 1]);
        assert.equal(a.connections(), 2);
        await a.session.send(chat, "after");
        await until("both have all", () => a.seqs.length >= 3 && b.seqs.length >= 3);
        assert.deepEqual(
            [a.seqs, b.seqs],
            [
                [1, 2, 3],
                [1, 2, 3],
            ],
        );
    } finally {
        a.session.close();
        b.session.close();
        way.close();
    }
});

test("what was written while a connection was down is filled in, in order", async () => {
    const { way, ann, ben, chat } = await pair();
    const [a, b] = [observed(ann, chat), observed(ben, chat)];
    try {
        await b.session.send(chat, "1");
        await until("the first is here", () => a.seqs.length === 1);
        way.deafen();
        for (const body of ["2", "3", "4"]) await b.session.send(chat, body);
        assert.deepEqual(a.seqs, [1]);
        way.cut();
        await until("the gap is filled", () => a.seqs.length >= 4);
        await b.session.send(chat, "5");
        await until("the next is here", () => a.seqs.length >= 5);
        assert.deepEqual(a.seqs, [1, 2, 3, 4, 5]);
    } finally {
        a.session.close();
        b.session.close();
        way.close();
    }
});

test("who wakes a session whose connection died without a word has the rest in seconds", async () => {
    const { way, ann, ben, chat } = await pair();
    const [a, b] = [observed(ann, chat), observed(ben, chat)];
    try {
        await b.session.send(chat, "1");
        await until("the first is here", () => a.seqs.length === 1);
        a.session.wake();
        await a.session.send(chat, "2");
        assert.equal(a.connections(), 1, "a connection that is well stays");
        way.deafen();
        await b.session.send(chat, "3");
        a.session.wake();
        await until("the rest is here", () => a.seqs.length >= 3);
        assert.deepEqual([a.seqs, a.connections()], [[1, 2, 3], 2]);
    } finally {
        a.session.close();
        b.session.close();
        way.close();
    }
});

test("two devices of one user agree on what is read, and the other user learns it", async () => {
    const { way, ann, ben, chat } = await pair();
    const [phone, laptop, b] = [observed(ann, chat), observed(ann, chat), observed(ben, chat)];
    try {
        const onLaptop = marksSeen(laptop.session);
        const onBens = marksSeen(b.session);
        await until("all are connected", () => [phone, laptop, b].every((of) => of.connections() === 1));
        for (const body of ["1", "2", "3"]) await b.session.send(chat, body);
        await until("both devices have all", () => phone.seqs.length >= 3 && laptop.seqs.length >= 3);
        phone.session.read(chat, 2);
        await until("the other device knows", () => onLaptop.some(isRead(ann.user, 2)));
        assert.equal(onLaptop.find(isRead(ann.user, 2))?.unread, 1);
        laptop.session.read(chat, 3);
        await until("the other user knows", () => onBens.some(isRead(ann.user, 3)));
        const states = statesOf(new Session(ann), chat);
        try {
            await until("a new device knows", () => states.seen.length > 0);
            assert.deepEqual(states.seen[0]?.watermarks, {
                read_seq: 3,
                delivered_seq: 3,
                unread: 0,
                mentions: 0,
                counted_seq: 3,
            });
        } finally {
            states.session.close();
        }
    } finally {
        for (const of of [phone, laptop, b]) of.session.close();
        way.close();
    }
});

test("a device that was away learns by sync which chat has grown", async () => {
    const { way, ann, ben, chat } = await pair();
    const other = (await ann.createChat({ kind: "group", title: "Quiet", members: [ben.user] })).chat_id;
    const [away, b] = [observed(ann, chat), observed(ben, chat)];
    const pages: socket.SyncPage[] = [];
    away.session.on("synced", ({ page }) => pages.push(page));
    try {
        await b.session.send(chat, "1");
        await until("the first is here", () => away.seqs.length === 1 && pages.length > 0);
        const atFirst = pages.flatMap(({ chats }) => chats.map((state) => state.chat)).sort();
        assert.deepEqual(atFirst, [chat, other].sort());
        pages.length = 0;
        way.deafen();
        for (const body of ["2", "3"]) await b.session.send(chat, body);
        way.cut();
        await until("what was missed is here", () => away.seqs.length >= 3 && pages.length > 0);
        assert.deepEqual(away.seqs, [1, 2, 3]);
        const grown = pages.flatMap(({ chats }) => chats);
        assert.ok(grown.some((state) => state.chat === chat));
    } finally {
        away.session.close();
        b.session.close();
        way.close();
    }
});

/** A session with the list of chats that its events make, and the cursor of its last page. */
function listing(identity: Identity, options: SessionOptions & { list?: ChatList } = {}) {
    const session = new Session(identity, options);
    const list = options.list ?? new ChatList(identity.user);
    const of = { session, list, cursor: "" };
    for (const type of ChatList.EVENTS) session.on(type, (event) => list.apply(event));
    session.on("synced", ({ page }) => (of.cursor = page.cursor));
    return of;
}

test("a list of chats that is kept is the one that a new device fetches", async () => {
    const { way, ann, ben, chat } = await pair();
    const carol = await newUser(dev.url);
    const [kept, b] = [listing(ann), new Session(ben)];
    const sessions = [kept.session, b];
    /** Waits until a new device of the user has the same list. */
    const agrees = async (of: { list: ChatList }) => {
        const late = listing(ann);
        sessions.push(late.session);
        await until("a new device has the chats", () => late.cursor !== "");
        await until(
            "the lists agree",
            () => JSON.stringify(of.list.chats) === JSON.stringify(late.list.chats),
        ).catch(() => assert.deepEqual(of.list.chats, late.list.chats));
        late.session.close();
    };
    try {
        await until("the chat is listed", () => kept.list.get(chat) !== undefined);
        const group = await ben.createChat({ kind: "group", title: "Friends", members: [ann.user] });
        await b.send(chat, "one");
        await b.send(chat, { kind: "text", body: "two", mentions: [ann.user] });
        await until("a new chat is listed", () => kept.list.get(group.chat_id) !== undefined);
        await until("both are unread", () => kept.list.unread.unread === 2);
        assert.equal(kept.list.unread.mentions, 1);
        await agrees(kept);

        kept.session.close();
        await ben.call("PUT", `/api/chats/${group.chat_id}/members/${carol.user}`, { role: "member" });
        await b.send(chat, "three");
        const next = listing(ann, { list: kept.list, cursor: kept.cursor });
        sessions.push(next.session);
        await until("what was missed is here", () => next.list.get(group.chat_id)?.member_count === 3);
        next.session.read(chat, 2);
        await until("one is unread", () => next.list.unread.unread === 1);
        await ben.call("DELETE", `/api/chats/${group.chat_id}/members/${ann.user}`);
        await until("the user has left", () => next.list.get(group.chat_id) === undefined);
        await agrees(next);
    } finally {
        for (const session of sessions) session.close();
        way.close();
    }
});

test("a message in the outbox is sent by the next session, under the same key", async () => {
    const { way, ann, ben, chat } = await pair();
    const outbox = new MemoryOutbox();
    const a = observed(ann, chat, { outbox });
    const b = observed(ben, chat);
    let next: ReturnType<typeof observed> | undefined;
    try {
        await a.session.send(chat, "before");
        way.deafen();
        const sent = a.session.send(chat, "kept");
        await until("the other has it", () => b.bodies.includes("kept"));
        a.session.close();
        await assert.rejects(sent, (error) => error instanceof SendError && error.code === undefined);
        assert.equal((await outbox.load()).length, 1);
        way.cut();
        next = observed(ann, chat, { outbox });
        await until("it is settled", async () => (await outbox.load()).length === 0);
        await next.session.send(chat, "after");
        await until("all is here", () => b.seqs.length >= 3);
        assert.deepEqual(b.bodies, ["before", "kept", "after"]);
    } finally {
        next?.session.close();
        b.session.close();
        way.close();
    }
});

test("a refusal names its code", async () => {
    const { way, ann, ben, chat } = await pair();
    const stranger = await newUser(dev.url);
    const session = new Session(stranger);
    const a = new Session(ann);
    try {
        await assert.rejects(
            session.send(chat, "hello"),
            (error) => error instanceof SendError && error.code === "not_a_member",
        );
        await a.send(chat, "mine");
        const b = new Session(ben);
        const edit = b.send(chat, { kind: "edit", seq: 1, body: "not mine" });
        await assert.rejects(edit, (error) => error instanceof SendError && error.code === "permission_denied");
        b.close();
        const unknown = ann.call("GET", `/api/chats/${crypto.randomUUID()}`);
        await assert.rejects(
            unknown,
            (error) => error instanceof CallError && error.status >= 400 && !error.isTemporary,
        );
    } finally {
        session.close();
        a.close();
        way.close();
    }
});

test("a session ends when the user signs out, and does not connect again", async () => {
    const { way, ben, chat } = await pair();
    const b = observed(ben, chat);
    let why: string | undefined;
    b.session.on("ended", (event) => (why = event.why));
    try {
        await until("it is connected", () => b.connections() === 1);
        await ben.signOut();
        await until("it has ended", () => why !== undefined);
        assert.match(why ?? "", /3505/);
    } finally {
        b.session.close();
        way.close();
    }
});

test("a messenger that lost everything ends the session with what to do", async () => {
    const other = await Dev.start();
    try {
        const ann = await newUser(other.url);
        const ben = await newUser(other.url);
        const chat = (await ann.createChat({ kind: "direct", members: [ben.user] })).chat_id;
        const a = observed(ann, chat);
        let why: string | undefined;
        a.session.on("ended", (event) => (why = event.why));
        await a.session.send(chat, "before");
        await other.kill();
        await other.run();
        await until("it has ended", () => why !== undefined);
        assert.match(why ?? "", /sign in again/);
        a.session.close();
    } finally {
        await other.kill();
    }
});

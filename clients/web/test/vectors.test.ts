import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { ChatList, Machine, Timeline, View, type Event, type Output, type socket } from "@posthouse/client";

const VECTORS = "../vectors";

function vectors<T>(name: string): Array<T & { name: string }> {
    const all = JSON.parse(readFileSync(`${VECTORS}/${name}.json`, "utf8")) as Array<T & { name: string }>;
    assert.notEqual(all.length, 0, `${name}.json has vectors`);
    return all;
}

function message(seq: number): socket.Message {
    return { chat: "c", seq, sender: "u", key: `k${seq}`, kind: "text", body: `entry ${seq}`, sent_at_ms: 0 };
}

type TimelineVector = {
    after: number;
    steps: Array<{ offer?: number; begin_at?: number; head?: number }>;
    applied: number[];
    has_gap: boolean;
};

for (const vector of vectors<TimelineVector>("timeline")) {
    test(`timeline: ${vector.name}`, () => {
        const timeline = new Timeline(vector.after);
        const applied: number[] = [];
        for (const { offer, begin_at, head } of vector.steps) {
            if (offer !== undefined) applied.push(...timeline.offer(message(offer)).map(({ seq }) => seq));
            if (begin_at !== undefined) applied.push(...timeline.beginAt(begin_at).map(({ seq }) => seq));
            if (head !== undefined) timeline.noteHead(head);
        }
        assert.deepEqual([applied, timeline.hasGap], [vector.applied, vector.has_gap]);
    });
}

type ViewVector = {
    user: string;
    entries: socket.Message[];
    expire_at_ms?: number;
    expected: socket.Message[];
};

for (const vector of vectors<ViewVector>("view")) {
    test(`view: ${vector.name}`, () => {
        const view = new View(vector.user);
        for (const entry of vector.entries) view.apply(entry);
        if (vector.expire_at_ms !== undefined) view.expire(vector.expire_at_ms);
        assert.deepEqual([...view.entries.values()], vector.expected);
    });
}

type ChatsEvent = {
    synced?: socket.SyncPage;
    entry?: socket.Message;
    elsewhere?: socket.Message;
    marked?: socket.Receipt;
    own_state?: socket.OwnState;
};
type ChatsVector = {
    user: string;
    events: ChatsEvent[];
    expire_at_ms?: number;
    chats: socket.ChatState[];
    unread: [number, number];
};

for (const vector of vectors<ChatsVector>("chats")) {
    test(`chats: ${vector.name}`, () => {
        const list = new ChatList(vector.user);
        for (const { synced, entry, elsewhere, marked, own_state } of vector.events) {
            if (synced) list.apply({ type: "synced", page: synced });
            if (entry) list.apply({ type: "entry", message: entry, origin: "pushed" });
            if (elsewhere) list.apply({ type: "elsewhere", message: elsewhere });
            if (marked) list.apply({ type: "marked", receipt: marked });
            if (own_state) list.apply({ type: "own_state", ownState: own_state });
        }
        if (vector.expire_at_ms !== undefined) list.expire(vector.expire_at_ms);
        const { unread, mentions } = list.unread;
        assert.deepEqual([list.chats, [unread, mentions]], [vector.chats, vector.unread]);
    });
}

type Do = {
    connected?: socket.Connected;
    disconnected?: string;
    frame?: socket.ServerFrame;
    follow?: { chat: string; after: number };
    send?: { chat: string; key: string; body: string };
    refresh?: string;
    read?: { chat: string; seq: number };
    delivered?: { chat: string; seq: number };
    sync?: object;
    tick?: object;
};
type MachineVector = {
    user: string;
    cursor?: string;
    ack?: "accepted" | "stored";
    steps: Array<{ at_ms: number; do: Do; out: unknown[] }>;
};

function shownEvent(event: Event): unknown {
    switch (event.type) {
        case "connected":
            return { connected: event.session };
        case "disconnected":
            return { disconnected: event.why };
        case "entry":
            return { entry: [event.message.seq, event.origin] };
        case "synced":
            return { synced: event.page.cursor };
        case "marked":
            return { marked: event.receipt };
        case "own_state":
            return { own_state: event.ownState };
        case "elsewhere":
            return { elsewhere: event.message.seq };
        case "unreadable":
            return { unreadable: [event.chat, event.code] };
        case "send":
            if (event.state.state === "stored") {
                return { stored: [event.key, event.state.seq, event.state.resends] };
            }
            // A message on its way has states in this client alone.
            return event.state.state === "failed" ? { failed: [event.key, event.state.code] } : undefined;
        default:
            return event;
    }
}

function shown(output: Output): unknown {
    if ("event" in output) return shownEvent(output.event);
    if ("tokenRefused" in output) return { token_refused: true };
    if ("refreshLater" in output) return { refresh_later: true };
    if ("tokenExpiresInSeconds" in output) return { token_expires_in_seconds: output.tokenExpiresInSeconds };
    return output;
}

for (const vector of vectors<MachineVector>("machine")) {
    test(`machine: ${vector.name}`, () => {
        const machine = new Machine(vector.user, vector.cursor, vector.ack);
        for (const step of vector.steps) {
            const now = step.at_ms;
            const { connected, disconnected, frame, follow, send, refresh } = step.do;
            const { read, delivered, sync, tick } = step.do;
            if (connected) machine.connected(connected, now);
            if (disconnected !== undefined) machine.disconnected(disconnected);
            if (frame) machine.frame(frame, now);
            if (follow) machine.follow(follow.chat, follow.after, now);
            if (send) {
                const { chat, key, body } = send;
                machine.send({ chat, key, post: { kind: "text", body } }, now);
            }
            if (refresh !== undefined) machine.refresh(refresh);
            if (read) machine.read(read.chat, read.seq, now);
            if (delivered) machine.delivered(delivered.chat, delivered.seq, now);
            if (sync) machine.sync(now);
            if (tick) machine.tick(now);
            const out = machine
                .take()
                .map(shown)
                .filter((one) => one !== undefined);
            assert.deepEqual(out, step.out, `at ${now} ms: ${JSON.stringify(step.do)}`);
        }
    });
}

import assert from "node:assert/strict";
import { test } from "node:test";
import { BackOff, ending, Machine, newKey, Pulse, Wakes, type socket } from "@posthouse/client";

const CONNECTED: socket.Connected = {
    session: "s",
    user: "u",
    ping_seconds: 25,
    pong_seconds: 8,
    max_inflight: 4,
    max_frame_bytes: 65_536,
    max_body_bytes: 16_384,
    token_expires_in_seconds: 300,
};

test("a close code says whether to connect again", () => {
    const cases: Array<[number, string]> = [
        [1006, "reconnect"],
        [1000, "reconnect"],
        [3000, "reconnect"],
        [3008, "reconnect"],
        [3012, "reconnect"],
        [3499, "reconnect"],
        [3005, "renew"],
        [3500, "renew"],
        [3501, "stop"],
        [3504, "stop"],
        [3505, "stop"],
        [3999, "stop"],
        [4000, "reconnect"],
    ];
    for (const [code, expected] of cases) assert.equal(ending(code), expected, `code ${code}`);
});

test("waits double to a bound, and are short again after a good connection", () => {
    const backOff = new BackOff();
    const waits = Array.from({ length: 8 }, () => backOff.next(1));
    assert.deepEqual(waits, [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000]);
    assert.equal(backOff.next(0.5, 59_999), 15_000);
    assert.equal(backOff.next(0.5, 60_000), 500);
    assert.equal(backOff.next(0), 0);
    backOff.reset();
    assert.equal(backOff.next(1), 1_000, "on another network");
});

test("wakes are heeded at once, then one in three seconds, and none is lost", () => {
    const wakes = new Wakes();
    assert.equal(wakes.isDue(0), false);
    for (const at of [0, 1, 2]) wakes.note(at);
    assert.deepEqual(
        [2, 3].map((now) => wakes.isDue(now)),
        [true, false],
    );
    for (const at of [10, 20, 2_000]) wakes.note(at);
    assert.deepEqual(
        [3_001, 3_002, 3_003, 60_000].map((now) => wakes.isDue(now)),
        [false, true, false, false],
    );
    wakes.note(60_000);
    assert.equal(wakes.isDue(60_000), true);
});

test("a wake before a frame came is answered by that frame", () => {
    const wakes = new Wakes();
    wakes.note(0);
    assert.equal(wakes.isDue(0), true);
    wakes.note(1);
    wakes.received();
    assert.equal(wakes.isDue(60_000), false);
});

test("a server that does not answer a probe fell silent, and one that does did not", () => {
    const pulse = new Pulse(CONNECTED, 0);
    pulse.probed(1_000);
    pulse.probed(5_000);
    assert.deepEqual(
        [5_999, 6_000].map((now) => pulse.isSilent(now)),
        [false, true],
        "a second probe gives no more time",
    );
    pulse.received(6_000);
    assert.equal(pulse.isSilent(60_000), false);
    pulse.probed(60_000);
    assert.equal(pulse.isSilent(65_000), true);
});

test("a server that does not ping fell silent", () => {
    const pulse = new Pulse(CONNECTED, 0);
    assert.equal(pulse.isSilent(66_000), false);
    assert.equal(pulse.isSilent(66_001), true);
    pulse.received(66_001);
    assert.equal(pulse.isSilent(67_000), false);
    assert.equal(pulse.isSilent(66_001 + 8 * 3_600_000), true, "after a night's sleep");
});

test("a token is replaced once, when a fifth of its time is left", () => {
    const pulse = new Pulse(CONNECTED, 0);
    assert.deepEqual(
        [239_999, 240_000, 240_001].map((now) => pulse.isRefreshDue(now)),
        [false, true, false],
    );
    pulse.renewed(40, 300_000);
    assert.deepEqual(
        [319_999, 320_000].map((now) => pulse.isRefreshDue(now)),
        [false, true],
        "half of a short one",
    );
});

test("a program sees every state of its message", () => {
    const machine = new Machine("u");
    const states = () =>
        machine
            .take()
            .flatMap((output) =>
                "event" in output && output.event.type === "send" ? [output.event.state] : [],
            );
    machine.send({ chat: "c", key: "k", post: { kind: "text", body: "hi" } }, 0);
    assert.deepEqual(states(), [{ state: "sending" }]);
    machine.connected(CONNECTED, 1);
    machine.frame({ id: 3, result: { accepted: {} } }, 2);
    assert.deepEqual(states(), [{ state: "accepted" }]);
    machine.ended("closed");
    assert.deepEqual(states(), [{ state: "unknown" }]);
});

test("the key of a message is a UUID that begins with the time", () => {
    const keys = [0, 1, 2 ** 32, 1_796_083_200_000, 2 ** 48 - 1].map(newKey);
    for (const key of keys) {
        assert.match(key, /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
    }
    assert.deepEqual(keys.toSorted(), keys);
    assert.deepEqual(
        keys.map((key) => Number.parseInt(key.slice(0, 13).replace("-", ""), 16)),
        [0, 1, 2 ** 32, 1_796_083_200_000, 2 ** 48 - 1],
    );
    assert.notEqual(newKey(7), newKey(7));
});

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { decode, encode } from "../src/cbor.js";
import { codec, offered } from "../src/codec.js";

const NONE = { names: [], ids: new Set<string>() };

function bytes(hex: string): Uint8Array<ArrayBuffer> {
    return Uint8Array.from(hex.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
}

function hex(bytes: Uint8Array): string {
    return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

// RFC 8949, appendix A, as far as JSON has the value; with `false`, it is written in another way.
const VALUES: Array<[string, unknown, false?]> = [
    ["00", 0],
    ["01", 1],
    ["0a", 10],
    ["17", 23],
    ["1818", 24],
    ["1819", 25],
    ["1864", 100],
    ["1903e8", 1_000],
    ["1a000f4240", 1_000_000],
    ["1b000000e8d4a51000", 1_000_000_000_000],
    ["1bffffffffffffffff", 18_446_744_073_709_551_615, false],
    ["20", -1],
    ["29", -10],
    ["3863", -100],
    ["3903e7", -1_000],
    ["f90000", 0, false],
    ["f98000", -0, false],
    ["f93c00", 1, false],
    ["fb3ff199999999999a", 1.1],
    ["f93e00", 1.5, false],
    ["f97bff", 65_504, false],
    ["fa47c35000", 100_000, false],
    ["fa7f7fffff", 3.4028234663852886e38, false],
    ["fb7e37e43c8800759c", 1.0e300],
    ["f90001", 5.960464477539063e-8, false],
    ["f90400", 0.00006103515625, false],
    ["f9c400", -4, false],
    ["fbc010666666666666", -4.1],
    ["f97c00", Infinity, false],
    ["f97e00", NaN, false],
    ["f4", false],
    ["f5", true],
    ["f6", null],
    ["60", ""],
    ["6161", "a"],
    ["6449455446", "IETF"],
    ["62225c", '"\\'],
    ["62c3bc", "\u00fc"],
    ["63e6b0b4", "\u6c34"],
    ["64f0908591", "\u{10151}"],
    ["80", []],
    ["83010203", [1, 2, 3]],
    ["8301820203820405", [1, [2, 3], [4, 5]]],
    ["98190102030405060708090a0b0c0d0e0f101112131415161718181819", Array.from({ length: 25 }, (_, n) => n + 1)],
    ["a0", {}],
    ["a26161016162820203", { a: 1, b: [2, 3] }],
    ["826161a161626163", ["a", { b: "c" }]],
    ["a56161614161626142616361436164614461656145", { a: "A", b: "B", c: "C", d: "D", e: "E" }],
];

test("values are those of the RFC", () => {
    for (const [written, value, isWritten] of VALUES) {
        assert.deepEqual(decode(bytes(written), []), value, written);
        if (isWritten !== false) assert.equal(hex(encode(value, NONE)), written);
    }
    // A key with a number, of a name and of none.
    assert.deepEqual(decode(bytes("a201020304"), ["zero", "one"]), { one: 2, "#3": 4 });
});

test("what JSON does not have is refused, and so is what is cut off, too long or too deep", () => {
    const refused = [
        // Tags, a number of 65 bits is lossy, undefined and other simple values, bytes that are no id, unknown lengths.
        ...["c249010000000000000000", "c11a514b67b0", "d74401020304", "f7", "f0", "f8ff", "40", "4401020304"],
        ...["5f42010243030405ff", "7f657374726561646d696e67ff", "9fff", "bf61610161629f0203ffff", "ff", "1c"],
        // Something behind it, no key, no UTF-8, an early end.
        ...["a0a0", "a1f400", "61ff", "", "a1", "a201", "19", "1901", "6361", "5bffffffffffffffff00"],
        ...["9b7fffffffffffffff00", "bb7fffffffffffffff00", "7b001fffffffffffff61"],
        "81".repeat(128) + "00",
    ];
    for (const written of refused) assert.throws(() => decode(bytes(written), []), written);
    assert.doesNotThrow(() => decode(bytes("81".repeat(127) + "00"), []));
    assert.throws(() => encode({ body: 1n }, NONE), TypeError);
});

test("a field named __proto__ is a field", () => {
    const value = decode(bytes("a1695f5f70726f746f5f5f01"), []) as object;
    assert.deepEqual(Object.entries(value), [["__proto__", 1]]);
});

type Vector = { name: string; from: "client" | "server"; frame: object; cbor: string };
const VECTORS = JSON.parse(readFileSync("../vectors/encodings.json", "utf8")) as Vector[];
const CBOR = codec("posthouse.v1.cbor");
const JSON_TEXT = codec("posthouse.v1.json");

for (const { name, from, frame, cbor } of VECTORS) {
    test(`encodings: ${name}`, () => {
        if (from === "client") assert.equal(hex(CBOR.encode(frame) as Uint8Array), cbor);
        assert.deepEqual(CBOR.decode(bytes(cbor).buffer), frame);
        assert.deepEqual(JSON_TEXT.decode(JSON_TEXT.encode(frame)), frame);
    });
}

type Machine = { steps: Array<{ do: { frame?: object }; out: Array<{ frame?: object }> }> };

test("every frame of the other vectors is the same in both encodings", () => {
    const machines = JSON.parse(readFileSync("../vectors/machine.json", "utf8")) as Machine[];
    const frames = machines.flatMap(({ steps }) =>
        steps.flatMap((step) => [step.do, ...step.out].flatMap(({ frame }) => (frame ? [frame] : []))),
    );
    assert.notEqual(frames.length, 0);
    for (const frame of frames) {
        const sent = CBOR.encode(frame) as Uint8Array<ArrayBuffer>;
        assert.deepEqual(CBOR.decode(sent.buffer), frame);
    }
});

test("what a frame leaves out is left out, and half of a character is refused by the server as in JSON", () => {
    assert.equal(hex(CBOR.encode({ ping: undefined, pong: {} }) as Uint8Array), "a108a0");
    // A text of one byte that no UTF-8 has.
    assert.equal(hex(encode("\ud83d", NONE)), "61ff");
});

test("JSON is offered with CBOR, for servers that know nothing else", () => {
    assert.deepEqual(offered("json"), ["posthouse.v1.json"]);
    assert.deepEqual(offered("cbor"), ["posthouse.v1.cbor", "posthouse.v1.json"]);
    assert.equal(codec("posthouse.v1.json"), codec("something else"));
    for (const data of ["[]", "null", "1", "{", new ArrayBuffer(1)])
        assert.throws(() => JSON_TEXT.decode(data));
    for (const data of ["80", "f6", "01", ""]) assert.throws(() => CBOR.decode(bytes(data).buffer));
    assert.throws(() => CBOR.decode("{}"));
});

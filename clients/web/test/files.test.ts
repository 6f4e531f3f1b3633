import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { CallError, files, Identity, Messenger } from "@posthouse/client";

const BASE = "http://messenger.test";
const STORE = "http://store.test/bucket/f?X-Sig=secret";
const CHAT = "00000000-0000-0000-0000-000000000001";

type Request = { method: string; url: string; body: string; headers: Headers };

/** Answers requests to the messenger and the store one after another, and returns those that came. */
function answering(context: TestContext, answers: Array<[status: number, body: unknown]>): Request[] {
    const requests: Request[] = [];
    context.mock.method(globalThis, "fetch", async (url: URL | string, init: RequestInit) => {
        const body = init.body instanceof Blob ? await init.body.text() : String(init.body ?? "");
        requests.push({
            method: init.method ?? "GET",
            url: String(url),
            body,
            headers: new Headers(init.headers),
        });
        const [status, answer] = answers.shift() ?? [500, undefined];
        return new Response(answer === undefined ? null : JSON.stringify(answer), { status });
    });
    return requests;
}

function identity(): Identity {
    const tokens = {
        access_token: "t",
        refresh_token: "r",
        expires_in_seconds: 300,
        refresh_expires_in_seconds: 900,
    };
    return new Identity(new Messenger(BASE), "u", tokens);
}

function stored(state: string, more: object = {}): object {
    return {
        id: "f",
        for: { chat: CHAT },
        owner: "u",
        name: "a.txt",
        type: "text/plain",
        size: 5,
        state,
        ...more,
    };
}

const WHOLE = { upload: { method: "PUT", url: STORE, headers: { "x-sum": "s" }, expires_at_ms: 9 } };

test("a file goes to the store and is taken once it is checked", async (context) => {
    const requests = answering(context, [
        [201, stored("pending", WHOLE)],
        [200, undefined],
        [200, stored("processing")],
        [200, stored("ready")],
    ]);
    const blob = new Blob(["hello"], { type: "text/plain;charset=utf-8" });
    const file = await files.upload(identity(), { chat: CHAT }, blob, "a.txt");
    assert.equal(file.state, "ready");
    const [create, put, complete, look] = requests;
    assert.deepEqual(JSON.parse(create!.body), {
        for: { chat: CHAT },
        name: "a.txt",
        type: "text/plain",
        size: 5,
        sha256: "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
    });
    assert.match(create!.headers.get("idempotency-key") ?? "", /^[0-9a-f-]{36}$/);
    assert.deepEqual([put!.method, put!.url, put!.body], ["PUT", STORE, "hello"]);
    assert.equal(put!.headers.get("authorization"), null, "the store gets no token");
    assert.equal(put!.headers.get("x-sum"), "s");
    assert.deepEqual([complete!.method, complete!.url], ["POST", `${BASE}/api/media/files/f/complete`]);
    assert.deepEqual([look!.method, look!.url], ["GET", `${BASE}/api/media/files/f`]);
});

test("an upload goes on with the parts that are missing, and with a new address where one has expired", async (context) => {
    const part = (number: number, offset: number, more: object) => ({ number, offset, size: 3, ...more });
    const parts = (url: string) => ({
        upload: { parts: [part(1, 0, { uploaded: true }), part(2, 3, { url })], expires_at_ms: 9 },
    });
    const requests = answering(context, [
        [200, stored("pending", parts(`${STORE}&n=1`))],
        [403, undefined],
        [200, stored("pending", parts(`${STORE}&n=2`))],
        [200, undefined],
        [200, stored("ready")],
    ]);
    const file = await files.resumeUpload(identity(), "f", new Blob(["abcdef"]));
    assert.equal(file.state, "ready");
    const puts = requests.filter(({ method }) => method === "PUT");
    assert.deepEqual(
        puts.map(({ url, body }) => [url, body]),
        [
            [`${STORE}&n=1`, "def"],
            [`${STORE}&n=2`, "def"],
        ],
    );
});

test("what is not taken, and a store that does not answer, end an upload without its address", async (context) => {
    answering(context, [
        [201, stored("pending", WHOLE)],
        [200, undefined],
        [200, stored("refused", { refused: "type_mismatch" })],
    ]);
    const upload = () => files.upload(identity(), { chat: CHAT }, new Blob(["hello"]), "a.txt");
    await assert.rejects(upload, (error: unknown) => {
        assert.ok(error instanceof files.FileError);
        return /refused \(type_mismatch\)/.test(error.message);
    });
    context.mock.restoreAll();
    answering(context, [
        [201, stored("pending", WHOLE)],
        [400, undefined],
    ]);
    await assert.rejects(upload, (error: unknown) => {
        assert.ok(error instanceof CallError && error.status === 400);
        return !error.message.includes("secret");
    });
});

test("a link is one of the messenger and needs no token", async (context) => {
    answering(context, [
        [200, stored("ready", { links: { content: "/content/abc", expires_at_ms: 9 } })],
        [200, stored("ready", { links: { content: "/content/abc", expires_at_ms: 9 } })],
    ]);
    assert.equal(String(await files.link(identity(), "f")), `${BASE}/content/abc`);
    await assert.rejects(files.link(identity(), "f", "thumbnail"), files.FileError);
});

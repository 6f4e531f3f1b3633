import assert from "node:assert/strict";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { after, before, test } from "node:test";
import { CallError, Realm } from "@posthouse/client";

let server: Server;
let realm: Realm;
let answer: (form: URLSearchParams) => { status: number; body: object };

before(async () => {
    server = createServer((request: IncomingMessage, response: ServerResponse) => {
        let text = "";
        request.on("data", (data: Buffer) => (text += data.toString()));
        request.on("end", () => {
            const { status, body } = answer(new URLSearchParams(text));
            response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
        });
    }).listen(0, "127.0.0.1");
    await once(server, "listening");
    realm = new Realm(`http://127.0.0.1:${(server.address() as AddressInfo).port}/realms/acme/`);
});

after(() => server.close());

test("a code gives tokens with the verifier of the sign-in that asked for it", async () => {
    const { url, begun } = await realm.begin("https://acme.example/", { isSilent: true });
    const query = new URL(url).searchParams;
    assert.equal(query.get("prompt"), "none");
    const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(begun.verifier));
    assert.equal(query.get("code_challenge"), Buffer.from(digest).toString("base64url"));
    answer = (form) => {
        assert.equal(form.get("code_verifier"), begun.verifier);
        assert.equal(form.get("redirect_uri"), "https://acme.example/");
        const tokens = { access_token: "a", refresh_token: "r", expires_in: 300, refresh_expires_in: 1800 };
        return { status: 200, body: tokens };
    };
    const tokens = await realm.finish(begun, new URLSearchParams({ code: "c", state: begun.state }));
    assert.deepEqual(tokens, {
        ...{ access_token: "a", expires_in_seconds: 300 },
        ...{ refresh_token: "r", refresh_expires_in_seconds: 1800 },
    });
});

test("a code that this page did not ask for is not sent to the realm", async () => {
    answer = () => assert.fail("the realm was called");
    const { begun } = await realm.begin("https://acme.example/");
    for (const [kept, query] of [
        [undefined, { code: "c", state: begun.state }],
        [begun, { code: "c", state: "another" }],
        [begun, { error: "login_required", state: begun.state }],
    ] as const) {
        assert.equal(await realm.finish(kept, new URLSearchParams(query)), undefined);
    }
});

test("a session that is over is told apart from a realm that does not answer", async () => {
    for (const [status, body, expected, isTemporary] of [
        [400, { error: "invalid_grant" }, 401, false],
        [503, {}, 503, true],
    ] as const) {
        answer = () => ({ status, body });
        await assert.rejects(realm.refresh("r", 1_000), (error: unknown) => {
            assert.ok(error instanceof CallError);
            assert.deepEqual([error.status, error.isTemporary], [expected, isTemporary]);
            return true;
        });
    }
});

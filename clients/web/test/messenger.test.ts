import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { CallError, Identity, Messenger } from "@posthouse/client";

const BASE = "http://messenger.test";

type Call = { path: string; token: string | null; body: unknown };

/** Tokens as the messenger gives them. */
function tokens(name: string, expiresInSeconds = 300) {
    return {
        access_token: name,
        refresh_token: `refresh ${name}`,
        expires_in_seconds: expiresInSeconds,
        refresh_expires_in_seconds: 900,
    };
}

function json(status: number, body: unknown): Response {
    return new Response(JSON.stringify(body), { status });
}

const REFUSED = { type: "about:blank", title: "no", status: 401, code: "token_expired" };

/** Answers calls instead of a messenger, and returns those that came. */
function answering(context: TestContext, answer: (call: Call) => Promise<Response> | Response): Call[] {
    const calls: Call[] = [];
    context.mock.method(globalThis, "fetch", async (url: URL, init: RequestInit) => {
        const token = new Headers(init.headers).get("authorization");
        const body: unknown = typeof init.body === "string" ? JSON.parse(init.body) : undefined;
        const call = { path: url.pathname, token, body };
        calls.push(call);
        return answer(call);
    });
    return calls;
}

function identity(expiresInSeconds?: number): Identity {
    return new Identity(new Messenger(BASE), "u", tokens("old", expiresInSeconds));
}

test("calls whose token is refused are made again with one new token", async (context) => {
    let renew: () => void = () => {};
    const renewed = new Promise<void>((resolve) => (renew = resolve));
    const calls = answering(context, async ({ path, token }) => {
        if (path === "/api/auth/refresh") return json(200, tokens("new"));
        if (token === "Bearer new") {
            renew();
            return json(200, { done: path });
        }
        // The refusal of the last one comes when another call has the new token.
        if (path === "/api/late") await renewed;
        return json(401, REFUSED);
    });
    const user = identity();
    const paths = ["/api/one", "/api/other", "/api/late"];
    const answers = await Promise.all(paths.map((path) => user.call("GET", path)));
    assert.deepEqual(
        answers,
        paths.map((path) => ({ done: path })),
    );
    const refreshes = calls.filter(({ path }) => path === "/api/auth/refresh");
    assert.deepEqual(refreshes, [
        { path: "/api/auth/refresh", token: null, body: { refresh_token: "refresh old" } },
    ]);
});

test("a call that is refused with a new token as well fails", async (context) => {
    const calls = answering(context, ({ path }) =>
        path === "/api/auth/refresh" ? json(200, tokens("new")) : json(401, REFUSED),
    );
    const refused = (error: unknown) => error instanceof CallError && error.status === 401;
    await assert.rejects(identity().call("GET", "/api/one"), refused);
    assert.deepEqual(
        calls.map(({ path, token }) => token ?? path),
        ["Bearer old", "/api/auth/refresh", "Bearer new"],
    );
});

test("another refusal is no matter of the token", async (context) => {
    const calls = answering(context, () => json(403, { ...REFUSED, status: 403, code: "permission_denied" }));
    await assert.rejects(identity().call("GET", "/api/one"), CallError);
    assert.equal(calls.length, 1);
});

test("a clock that is set back makes no token last longer", async (context) => {
    answering(context, () => json(200, tokens("new")));
    let elapsed = 0;
    context.mock.method(performance, "now", () => elapsed);
    const user = identity(100);
    context.mock.method(Date, "now", () => -1e12);
    assert.equal(await user.token(), "old");
    elapsed = 54_999;
    assert.equal(await user.token(), "old");
    elapsed = 55_000;
    assert.equal(await user.token(), "new");
});

test("a refresh without an answer is tried three times, 3 s each, with the same token", async (context) => {
    const timeouts: number[] = [];
    const noAnswer = context.mock.method(AbortSignal, "timeout", (ms: number) => {
        timeouts.push(ms);
        return AbortSignal.abort();
    });
    let answered = 3;
    const calls = answering(context, () => {
        if (calls.length < answered) throw new DOMException("no answer", "TimeoutError");
        return json(200, tokens("new"));
    });
    const user = identity();
    assert.equal(await user.token(true), "new");
    assert.deepEqual(timeouts, [3_000, 3_000, 3_000]);
    assert.deepEqual(
        calls.map(({ body }) => body),
        Array.from({ length: 3 }, () => ({ refresh_token: "refresh old" })),
    );

    answered = Infinity;
    calls.length = 0;
    await assert.rejects(user.token(true), (error) => error instanceof CallError && error.status === 0);
    assert.equal(calls.length, 3);
    assert.equal(noAnswer.mock.callCount(), 6);
});

test("a refresh that is refused is not tried again", async (context) => {
    const calls = answering(context, () => json(401, { ...REFUSED, code: "unauthenticated" }));
    await assert.rejects(identity().token(true), (error) => error instanceof CallError && error.status === 401);
    assert.equal(calls.length, 1);
});

test("searches are sent as they were typed", async (context) => {
    const queries: string[] = [];
    context.mock.method(globalThis, "fetch", async (url: URL) => {
        queries.push(`${url.pathname} ${url.searchParams.get("q")} ${url.searchParams.get("cursor")}`);
        return json(200, { items: [], complete: true });
    });
    const user = identity();
    assert.deepEqual(await user.searchMessages('"red & car" has:image'), { items: [], complete: true });
    await user.searchMessages("кот", "1.2.3");
    assert.deepEqual([await user.findChats("a b"), await user.findUsers("петр")], [[], []]);
    assert.deepEqual(queries, [
        '/api/search/messages "red & car" has:image null',
        "/api/search/messages кот 1.2.3",
        "/api/search/chats a b null",
        "/api/search/users петр null",
    ]);
});

// The service worker, without a browser around it.
import { beforeEach, expect, test, vi } from "vitest";
import { addressOf, readNotice, shown, type Notice, type PushTexts } from "../src/worker/notice";
import { KEPT_HEADER, Shell, wayOf } from "../src/worker/shell";
import { placeOf } from "../src/place";
import en from "../src/text/languages/en.json";
import ru from "../src/text/languages/ru.json";
import { ANNA, CHAT } from "./stand";

const TEXTS = { en, ru } as unknown as PushTexts;
const ORIGIN = "https://acme.example";

const NOTICE: Notice = {
    chat: CHAT,
    kind: "group",
    title: "Harbour",
    seq: 7,
    message: { sender: ANNA, name: "Anna", text: "the boat is in", sent_at_ms: 1_700_000_000_000 },
    unread: 3,
    mentions: 0,
    badge: 5,
};

test("a push is one notification of its chat, and leads to its message", () => {
    const { title, options } = shown(readNotice(JSON.stringify(NOTICE)), TEXTS, "en");
    expect(title).toBe("Anna · Harbour");
    expect(options).toMatchObject({ body: "the boat is in", tag: CHAT, renotify: true });
    const address = new URL(addressOf(options.data), ORIGIN);
    expect(address.pathname).toBe("/");
    expect(placeOf(address.hash)).toEqual({ chat: CHAT, at: 7 });
});

test("a push without a text says how much is unread, in the user's language", () => {
    const { message: _, title: __, ...bare } = NOTICE;
    for (const [language, title, body] of [
        ["en-GB", "New messages", "3 unread messages"],
        ["ru", "Новые сообщения", "3 непрочитанных сообщения"],
        ["xx", "New messages", "3 unread messages"],
    ] as const)
        expect(shown({ ...bare, kind: "direct" }, TEXTS, language)).toMatchObject({ title, options: { body } });
});

test("what is no notice shows that there is something, and leads nowhere", () => {
    for (const bad of ["", "null", "[]", "{", `{"chat":"../evil","seq":1}`, `{"chat":"${CHAT}"}`]) {
        expect(readNotice(bad), bad).toBeUndefined();
        const { title, options } = shown(readNotice(bad), TEXTS, "en");
        expect(title).toBe("New messages");
        expect(options.data).toBeUndefined();
    }
});

test("the worker answers for the page's files, and for nothing else", () => {
    for (const [path, expected] of [
        ["/", "fresh"],
        ["/?code=c&state=s", "fresh"],
        ["/app/config.json", "fresh"],
        ["/app/icon-192.png", "fresh"],
        ["/app/assets/index-1.js", "immutable"],
        ["/app/sw.js", undefined],
        ["/api/users/me", undefined],
        ["/content/files/1", undefined],
        ["/docs/web", undefined],
    ] as const)
        expect(wayOf("GET", new URL(path, ORIGIN), ORIGIN), path).toBe(expected);
    expect(wayOf("POST", new URL("/", ORIGIN), ORIGIN)).toBeUndefined();
    expect(wayOf("GET", new URL("https://id.example/"), ORIGIN)).toBeUndefined();
});

/** Caches of a browser. */
class FakeCaches {
    readonly all = new Map<string, Map<string, Response>>();

    async open(name: string): Promise<Cache> {
        const cache = this.all.get(name) ?? new Map<string, Response>();
        this.all.set(name, cache);
        return {
            put: async (path: string, response: Response) => void cache.set(path, response),
            match: async (path: string) => cache.get(path)?.clone(),
        } as unknown as Cache;
    }

    async match(request: Request): Promise<Response | undefined> {
        const path = new URL(request.url).pathname;
        for (const cache of this.all.values()) if (cache.has(path)) return cache.get(path)!.clone();
        return undefined;
    }

    keys = async () => [...this.all.keys()];
    delete = async (name: string) => this.all.delete(name);
}

const files = (id: string) => [`/app/assets/index-${id}.js`, `/app/assets/panel-${id}.js`];
const request = (path: string) => new Request(new URL(path, ORIGIN));
let caches: FakeCaches;
/** What the messenger serves, by path. */
let served: Map<string, string>;
let network: "up" | "down" | "slow" | "broken" | "gone";
const leave = vi.fn(async () => true);

function serve(id: string): void {
    served = new Map([
        ["/", `<script src="/app/assets/index-${id}.js">`],
        ["/app/config.json", `{"name":"${id}"}`],
        ...files(id).map((path) => [path, `file of ${id}`] as const),
    ]);
}

const fetch = vi.fn(async (asked: Request | string) => {
    const path = new URL(typeof asked === "string" ? asked : asked.url, ORIGIN).pathname;
    if (network === "down") throw new TypeError("failed to fetch");
    if (network === "slow") return new Promise<Response>(() => undefined);
    if (network === "gone") return new Response("gone", { status: 410 });
    if (network === "broken") return new Response("no", { status: 503 });
    const text = served.get(path);
    return new Response(text ?? "", { status: text === undefined ? 404 : 200 });
});

function shell(id: string): Shell {
    const host = { caches: caches as unknown as CacheStorage, fetch, patienceMs: 5, leave };
    return new Shell(host, { id, files: files(id), entry: files(id)[0]! });
}

const text = async (of: Shell, path: string) => {
    const way = wayOf("GET", new URL(path, ORIGIN), ORIGIN)!;
    return (await of.answer(way, request(path))).text();
};

beforeEach(() => {
    caches = new FakeCaches();
    network = "up";
    serve("a");
});

test.each(["down", "slow", "broken"] as const)("the page opens with a network that is %s", async (state) => {
    const worker = shell("a");
    await worker.install();
    network = state;
    expect(await text(worker, "/?code=c")).toContain("index-a.js");
    expect(await text(worker, "/app/assets/panel-a.js")).toBe("file of a");
    const config = await worker.answer("fresh", request("/app/config.json"));
    expect(await config.json()).toEqual({ name: "a" });
    expect(config.headers.has(KEPT_HEADER)).toBe(true);
});

test("with a network the page and what it has to know are those of now", async () => {
    const worker = shell("a");
    await worker.install();
    served.set("/app/config.json", `{"name":"renamed"}`);
    const config = await worker.answer("fresh", request("/app/config.json"));
    expect(config.headers.has(KEPT_HEADER)).toBe(false);
    expect(await config.json()).toEqual({ name: "renamed" });
    network = "down";
    expect(await text(worker, "/app/config.json")).toBe(`{"name":"renamed"}`);
});

test("a page of before has its files after a release, until it is closed", async () => {
    await shell("a").install();
    serve("b");
    const next = shell("b");
    await next.install();
    expect(await text(next, "/app/assets/panel-a.js")).toBe("file of a");
    expect([next.has("/app/assets/index-a.js"), next.has("/app/assets/index-b.js")]).toEqual([false, true]);
    await next.forgetOthers();
    expect(await text(next, "/app/assets/panel-b.js")).toBe("file of b");
    expect((await next.answer("immutable", request("/app/assets/panel-a.js"))).status).toBe(404);
});

test("half a release is not kept: the page is still that of before", async () => {
    serve("b");
    served.set("/", `<script src="/app/assets/index-a.js">`);
    await expect(shell("b").install()).rejects.toThrow("another release");
    served.delete("/app/assets/panel-b.js");
    await expect(shell("b").install()).rejects.toThrow("404");
    expect(caches.all.size).toBe(0);
});

test("a page that is gone for good takes the worker with it, and a file or a fault does not", async () => {
    const worker = shell("a");
    await worker.install();
    network = "broken";
    await text(worker, "/");
    network = "gone";
    await text(worker, "/app/config.json");
    expect([leave.mock.calls.length, caches.all.size]).toEqual([0, 1]);
    expect((await worker.answer("fresh", request("/"))).status).toBe(410);
    expect([leave.mock.calls.length, caches.all.size]).toEqual([1, 0]);
});

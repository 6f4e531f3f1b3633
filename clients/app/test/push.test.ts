// This browser as a device that pushes reach.
import { beforeEach, expect, test, vi } from "vitest";
import { Push, type Door } from "../src/state/push";
import { ANNA, ME } from "./stand";

/** A browser's subscription, of a key. */
class FakeSubscription {
    static made = 0;
    readonly endpoint = `https://push.example/${++FakeSubscription.made}`;
    readonly options: { applicationServerKey: ArrayBuffer };
    isOver = false;

    constructor(key: Uint8Array<ArrayBuffer>) {
        this.options = { applicationServerKey: key.buffer };
    }

    toJSON = () => ({ endpoint: this.endpoint, keys: { p256dh: "P", auth: "A" } });
    unsubscribe = async () => (this.isOver = true);
}

let here: FakeSubscription | undefined;
let isPermitted: boolean;
let key: string;
let calls: Array<{ method: string; path: string; body: unknown }>;

const door = {
    getSubscription: async () => (here && !here.isOver ? here : null),
    subscribe: async ({ applicationServerKey }: PushSubscriptionOptionsInit) => {
        if (!isPermitted) throw new DOMException("no", "NotAllowedError");
        return (here = new FakeSubscription(applicationServerKey as Uint8Array<ArrayBuffer>));
    },
} as unknown as Door;

function push(user = ME): Push {
    const call = vi.fn(async (method: string, path: string, body?: unknown) => {
        calls.push({ method, path, body });
        return path.endsWith("/channels") ? { web_push_key: key } : { id: "sub-1" };
    });
    return new Push({ user, call } as unknown as ConstructorParameters<typeof Push>[0], async () => door);
}

const said = (method: string) => calls.filter((call) => call.method === method);

beforeEach(() => {
    [here, isPermitted, key, calls] = [undefined, true, "BAECAw", []];
});

test("a browser subscribes with the messenger's key, and once", async () => {
    const one = push();
    expect(one.own).toBeUndefined();
    expect(await one.begin()).toBe(true);
    expect([...new Uint8Array(here!.options.applicationServerKey)]).toEqual([4, 1, 2, 3]);
    const web_push = { endpoint: here!.endpoint, keys: { p256dh: "P", auth: "A" } };
    expect(said("POST").map(({ body }) => body)).toEqual([{ web_push }]);
    expect(one.own).toBe("sub-1");
    // The next page renews the same one.
    await push().begin();
    expect(said("POST").map(({ body }) => body)).toEqual([{ web_push }, { web_push }]);
});

test("a subscription of an earlier key is replaced: nothing would reach it", async () => {
    await push().begin();
    const before = here!;
    key = "BAECBA";
    expect(await push().begin()).toBe(true);
    expect(before.isOver).toBe(true);
    expect(here!.endpoint).not.toBe(before.endpoint);
});

test("a browser without permission is no device", async () => {
    isPermitted = false;
    const one = push();
    expect(await one.begin()).toBe(false);
    expect(one.own).toBeUndefined();
    expect(said("POST")).toEqual([]);
});

test("who signs out takes the browser away, here and at the messenger", async () => {
    const one = push();
    await one.begin();
    await one.end();
    expect(here!.isOver).toBe(true);
    expect(said("DELETE").map(({ path }) => path)).toEqual(["/api/notifications/subscriptions/sub-1"]);
    expect(one.own).toBeUndefined();
    expect(localStorage.length).toBe(0);
});

test("a browser of who did not sign out gives the next user nothing of theirs", async () => {
    await push(ANNA).begin();
    const mine = push(ME);
    expect([mine.isOfAnother, mine.own]).toEqual([true, undefined]);
    await mine.end();
    // The push service refuses the endpoint from now on; the other user's subscription is not this user's to remove.
    expect(here!.isOver).toBe(true);
    expect(said("DELETE")).toEqual([]);
    expect(mine.isOfAnother).toBe(false);
});

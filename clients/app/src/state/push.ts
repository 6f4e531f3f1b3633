// This browser as a device that pushes reach while no page of the messenger is open.
import { CallError, type Identity, type notification } from "@posthouse/client";
import { installed } from "../installed";
import { Source } from "../shared/source";

/** The subscription of this browser at the messenger, and whose it is. Its id is no secret. */
const KEY = "posthouse.push";

type Own = { user: string; id: string };

/** What a push comes by: the part of a worker's registration that subscribes. */
export type Door = Pick<PushManager, "getSubscription" | "subscribe">;

export class Push extends Source {
    readonly #identity: Pick<Identity, "call" | "user">;
    readonly #door: () => Promise<Door | undefined>;

    constructor(identity: Pick<Identity, "call" | "user">, door: () => Promise<Door | undefined> = doorOfPage) {
        super();
        this.#identity = identity;
        this.#door = door;
    }

    /** The id of this browser's subscription, if this user has one here. */
    get own(): string | undefined {
        const own = read();
        return own?.user === this.#identity.user ? own.id : undefined;
    }

    /** Whether another user, who has not signed out here, has a subscription of this browser. */
    get isOfAnother(): boolean {
        const own = read();
        return own !== undefined && own.user !== this.#identity.user;
    }

    /**
     * Subscribes this browser, or renews what it has: keys of the messenger change, and browsers give up subscriptions. Returns whether pushes
     * come from now on. The browser asks the user unless they have answered, so it is called for what they did. Throws a `CallError`.
     */
    async begin(): Promise<boolean> {
        const door = await this.#door();
        if (!door) return false;
        const channels: notification.NotificationChannels = await this.#identity.call(
            "GET",
            "/api/notifications/channels",
        );
        const key = bytes(channels.web_push_key);
        const before = await door.getSubscription();
        const isOurs = before !== null && same(before.options.applicationServerKey, key);
        // One of another key takes nothing, and no other can be made beside it.
        if (before && !isOurs) await before.unsubscribe();
        let subscription: PushSubscription;
        try {
            const asked = { userVisibleOnly: true, applicationServerKey: key };
            subscription = isOurs ? before : await door.subscribe(asked);
        } catch {
            // The user does not permit it, or the browser has no push service.
            return false;
        }
        const { endpoint, keys } = subscription.toJSON();
        const web_push = { endpoint, keys: { p256dh: keys?.["p256dh"], auth: keys?.["auth"] } };
        const { id }: notification.Subscription = await this.#identity.call(
            "POST",
            "/api/notifications/subscriptions",
            { web_push },
        );
        localStorage.setItem(KEY, JSON.stringify({ user: this.#identity.user, id } satisfies Own));
        this.changed();
        return true;
    }

    /** Takes this browser away from the user, at the messenger and here: who signs in next gets nothing of theirs. */
    async end(): Promise<void> {
        const { own } = this;
        await unsubscribe(await this.#door()).catch(() => undefined);
        forgetSubscription();
        this.changed();
        if (own === undefined) return;
        try {
            await this.#identity.call("DELETE", `/api/notifications/subscriptions/${own}`);
        } catch (error) {
            if (!(error instanceof CallError)) throw error;
        }
    }
}

/** Ends the pushes of this browser, of any user, without the messenger. */
export async function unsubscribeHere(): Promise<void> {
    if (!("serviceWorker" in navigator)) return;
    // A page that has just been opened has not installed its worker, and that of the page before is there.
    const registration = await navigator.serviceWorker.getRegistration();
    await unsubscribe(registration?.pushManager);
}

/** Without a subscription here, the push service refuses what comes, and the messenger forgets it. */
async function unsubscribe(door: Pick<Door, "getSubscription"> | undefined): Promise<void> {
    await (await door?.getSubscription())?.unsubscribe();
}

/** Forgets whose subscription this browser has. */
export function forgetSubscription(): void {
    localStorage.removeItem(KEY);
}

async function doorOfPage(): Promise<Door | undefined> {
    const isPossible = "serviceWorker" in navigator && "PushManager" in window;
    if (!isPossible || !installed.registration) return undefined;
    // Only one that is active subscribes.
    return (await navigator.serviceWorker.ready).pushManager;
}

function read(): Own | undefined {
    try {
        const { user, id } = JSON.parse(localStorage.getItem(KEY) ?? "{}") as Partial<Own>;
        return typeof user === "string" && typeof id === "string" ? { user, id } : undefined;
    } catch {
        return undefined;
    }
}

function bytes(text: string): Uint8Array<ArrayBuffer> {
    const plain = atob(text.replaceAll("-", "+").replaceAll("_", "/"));
    return Uint8Array.from(plain, (character) => character.charCodeAt(0));
}

function same(one: ArrayBuffer | null, other: Uint8Array): boolean {
    const known = new Uint8Array(one ?? new ArrayBuffer());
    return known.length === other.length && known.every((byte, at) => byte === other[at]);
}

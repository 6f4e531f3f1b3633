// What outlives a reload, in IndexedDB, by user: messages that are not known to be stored, refused ones, drafts, and the list of chats with
// where its sync goes on. No token is here.
import type { ErrorCode, Outbox, Outgoing, socket, user } from "@posthouse/client";
import type { Tabs } from "./tabs";

/** A message that the messenger refused, until its sender decides. */
export type Refused = Outgoing & { code: ErrorCode };

/** What a user has written in a chat and not sent. */
export type Draft = { body: string; replyTo?: number };

/** The list of an earlier page: all that is of before the cursor is in the chats. */
export type KeptList = {
    cursor: string;
    chats: socket.ChatState[];
    /** Those whom the list names. */
    profiles: user.UserProfile[];
};

/** What is to be written of a list. */
export type ListChange = {
    cursor: string;
    chats: readonly socket.ChatState[];
    /** Chats that are not in it any more; `all` those that are not written here. */
    gone: readonly string[] | "all";
    profiles: readonly user.UserProfile[];
};

/** A message in the outbox is of the tab that sends it. */
type Waiting = Outgoing & { at: number; tab?: string };

/** How much is forgotten: all, or all but what the messenger may not have yet, which goes out once the user signs in again. */
export type Extent = "all" | "all-but-unsent";

const UNSENT: readonly Store[] = ["outbox", "refused"];
const STORES = ["outbox", "refused", "drafts", "chats", "profiles", "facts"] as const;
type Store = (typeof STORES)[number];
/** One more with each change of the stores. */
const VERSION = 2;

/** What one user keeps in this browser. Without IndexedDB, as in some private windows, it lasts as long as the page. */
export class Kept implements Outbox {
    #database: IDBDatabase | undefined;
    readonly #tabs: Tabs | undefined;
    readonly #memory = new Map<Store, Map<string, unknown>>(STORES.map((store) => [store, new Map()]));
    #count = 0;

    private constructor(database: IDBDatabase | undefined, tabs: Tabs | undefined) {
        this.#database = database;
        this.#tabs = tabs;
        if (!database) return;
        // Who signs out in another tab removes it for all, and a later release changes it. This page goes on without it.
        database.onversionchange = () => this.close();
    }

    /** Opens what `user` keeps, for one of the tabs of this browser. */
    static async open(user: string, tabs?: Tabs): Promise<Kept> {
        try {
            return new Kept(await opened(name(user)), tabs);
        } catch {
            return new Kept(undefined, tabs);
        }
    }

    /** Removes what `user` keeps. A page that has it open goes on without it only where `all` goes: others are to `close` theirs before. */
    static async forget(user: string, extent: Extent = "all"): Promise<void> {
        if (extent === "all-but-unsent") return forgetRead(user);
        await new Promise<void>((resolve) => {
            const request = indexedDB.deleteDatabase(name(user));
            // Another tab may have it open: it is removed once that is closed.
            request.onsuccess = request.onerror = request.onblocked = () => resolve();
        });
    }

    /** Writes and reads nothing more in the browser. What comes from now on lasts as long as the page. */
    close(): void {
        this.#database?.close();
        this.#database = undefined;
    }

    /** Returns what this tab has to send: its own, and what tabs left that are gone. */
    async load(): Promise<Outgoing[]> {
        await this.adopt();
        const waiting = await this.#waiting();
        return waiting.filter(({ tab }) => !this.#tabs || tab === this.#tabs.id).map(outgoing);
    }

    /** Takes what tabs left that are gone, and returns it: no other tab sends it. */
    async adopt(): Promise<Outgoing[]> {
        const tabs = this.#tabs;
        if (!tabs) return [];
        return tabs.alone("outbox", async () => {
            const living = await tabs.living();
            const isLeft = ({ tab }: Waiting) => tab !== tabs.id && !(living && tab && living.has(tab));
            const left = (await this.#waiting()).filter(isLeft);
            for (const waiting of left) await this.#put("outbox", waiting.key, { ...waiting, tab: tabs.id });
            return left.map(outgoing);
        });
    }

    /** The order of the calls is kept: times of one millisecond are told apart by their count. */
    async put(outgoing: Outgoing): Promise<void> {
        this.#count += 1;
        const at = Date.now() + this.#count / 1_000;
        const waiting: Waiting = { ...outgoing, at, ...(this.#tabs && { tab: this.#tabs.id }) };
        await this.#put("outbox", outgoing.key, waiting);
    }

    async remove(key: string): Promise<void> {
        await this.#remove("outbox", key);
    }

    refused(): Promise<Refused[]> {
        return this.#all("refused");
    }

    keepRefused(refused: Refused): Promise<void> {
        return this.#put("refused", refused.key, refused);
    }

    dropRefused(key: string): Promise<void> {
        return this.#remove("refused", key);
    }

    drafts(): Promise<Array<Draft & { chat: string }>> {
        return this.#all("drafts");
    }

    keepDraft(chat: string, draft: Draft): Promise<void> {
        return this.#put("drafts", chat, { ...draft, chat });
    }

    dropDraft(chat: string): Promise<void> {
        return this.#remove("drafts", chat);
    }

    /** Returns the list of an earlier page. */
    async list(): Promise<KeptList | undefined> {
        if (!this.#database) return undefined;
        // In one step: the cursor is that of the chats.
        const transaction = this.#database.transaction(["chats", "profiles", "facts"]);
        const all = <T>(store: Store) => done<T[]>(transaction.objectStore(store).getAll());
        const [cursor, chats, profiles] = await Promise.all([
            done<string | undefined>(transaction.objectStore("facts").get("cursor")),
            all<socket.ChatState>("chats"),
            all<user.UserProfile>("profiles"),
        ]);
        return cursor === undefined ? undefined : { cursor, chats, profiles };
    }

    /** Writes what has changed of the list, together with its cursor. */
    async keepList({ cursor, chats, gone, profiles }: ListChange): Promise<void> {
        if (!this.#database) return;
        const transaction = this.#database.transaction(["chats", "profiles", "facts"], "readwrite");
        const [list, users] = [transaction.objectStore("chats"), transaction.objectStore("profiles")];
        if (gone === "all") {
            list.clear();
            users.clear();
        } else for (const chat of gone) list.delete(chat);
        for (const state of chats) list.put(state, state.chat);
        for (const profile of profiles) users.put(profile, profile.user_id);
        transaction.objectStore("facts").put(cursor, "cursor");
        await new Promise<void>((resolve, reject) => {
            transaction.oncomplete = () => resolve();
            transaction.onabort = () => reject(transaction.error ?? new Error("the list was not kept"));
        });
    }

    /** Returns the user's own profile of an earlier page. */
    async me(): Promise<user.OwnProfile | undefined> {
        if (!this.#database) return undefined;
        return done(this.#database.transaction("facts").objectStore("facts").get("me"));
    }

    keepMe(me: user.OwnProfile): Promise<void> {
        return this.#put("facts", "me", me);
    }

    async #waiting(): Promise<Waiting[]> {
        const waiting = await this.#all<Waiting>("outbox");
        return waiting.sort((one, other) => one.at - other.at);
    }

    #all<T>(store: Store): Promise<T[]> {
        if (!this.#database) return Promise.resolve([...(this.#memory.get(store)?.values() ?? [])] as T[]);
        return done(this.#database.transaction(store).objectStore(store).getAll());
    }

    async #put(store: Store, key: string, value: unknown): Promise<void> {
        if (!this.#database) this.#memory.get(store)?.set(key, value);
        else await done(this.#database.transaction(store, "readwrite").objectStore(store).put(value, key));
    }

    async #remove(store: Store, key: string): Promise<void> {
        if (!this.#database) this.#memory.get(store)?.delete(key);
        else await done(this.#database.transaction(store, "readwrite").objectStore(store).delete(key));
    }
}

/** Empties what is not of unsent messages. */
async function forgetRead(user: string): Promise<void> {
    const database = await opened(name(user));
    const stores = STORES.filter((store) => !UNSENT.includes(store));
    const transaction = database.transaction(stores, "readwrite");
    for (const store of stores) transaction.objectStore(store).clear();
    await new Promise<void>((resolve, reject) => {
        transaction.oncomplete = () => resolve();
        transaction.onabort = () =>
            reject(transaction.error ?? new Error("the browser's store does not answer"));
    }).finally(() => database.close());
}

function outgoing({ chat, key, post }: Waiting): Outgoing {
    return { chat, key, post };
}

function name(user: string): string {
    return `posthouse-${user}`;
}

function opened(name: string): Promise<IDBDatabase> {
    const request = indexedDB.open(name, VERSION);
    request.onupgradeneeded = () => {
        const { objectStoreNames } = request.result;
        for (const store of STORES)
            if (!objectStoreNames.contains(store)) request.result.createObjectStore(store);
    };
    return done(request);
}

function done<T>(request: IDBRequest<T>): Promise<T> {
    return new Promise((resolve, reject) => {
        request.onsuccess = () => resolve(request.result);
        request.onerror = () => reject(request.error ?? new Error("the browser's store does not answer"));
    });
}

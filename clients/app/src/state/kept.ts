// What outlives a reload: messages that are not known to be stored, refused ones, and drafts. In IndexedDB, by user; no token is here.
import type { ErrorCode, Outbox, Outgoing } from "@posthouse/client";

/** A message that the messenger refused, until its sender decides. */
export type Refused = Outgoing & { code: ErrorCode };

/** What a user has written in a chat and not sent. */
export type Draft = { body: string; replyTo?: number };

const STORES = ["outbox", "refused", "drafts"] as const;
type Store = (typeof STORES)[number];

/** What one user keeps in this browser. Without IndexedDB, as in some private windows, it lasts as long as the page. */
export class Kept implements Outbox {
    readonly #database: IDBDatabase | undefined;
    readonly #memory = new Map<Store, Map<string, unknown>>(STORES.map((store) => [store, new Map()]));
    #count = 0;

    private constructor(database: IDBDatabase | undefined) {
        this.#database = database;
    }

    /** Opens what `user` keeps. */
    static async open(user: string): Promise<Kept> {
        try {
            return new Kept(await opened(name(user)));
        } catch {
            return new Kept(undefined);
        }
    }

    /** Removes what `user` keeps. */
    static async forget(user: string): Promise<void> {
        await new Promise<void>((resolve) => {
            const request = indexedDB.deleteDatabase(name(user));
            // Another tab may have it open: it is removed once that is closed.
            request.onsuccess = request.onerror = request.onblocked = () => resolve();
        });
    }

    async load(): Promise<Outgoing[]> {
        const kept = await this.#all<Outgoing & { at: number }>("outbox");
        return kept.sort((one, other) => one.at - other.at).map(({ chat, key, post }) => ({ chat, key, post }));
    }

    /** The order of the calls is kept: times of one millisecond are told apart by their count. */
    async put(outgoing: Outgoing): Promise<void> {
        this.#count += 1;
        await this.#put("outbox", outgoing.key, { ...outgoing, at: Date.now() + this.#count / 1_000 });
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

function name(user: string): string {
    return `posthouse-${user}`;
}

function opened(name: string): Promise<IDBDatabase> {
    const request = indexedDB.open(name, 1);
    request.onupgradeneeded = () => {
        for (const store of STORES) request.result.createObjectStore(store);
    };
    return done(request).then((database) => {
        // Who signs out in another tab removes it for all.
        database.onversionchange = () => database.close();
        return database;
    });
}

function done<T>(request: IDBRequest<T>): Promise<T> {
    return new Promise((resolve, reject) => {
        request.onsuccess = () => resolve(request.result);
        request.onerror = () => reject(request.error ?? new Error("the browser's store does not answer"));
    });
}

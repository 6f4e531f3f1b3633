// Keeps the list of chats over reloads: the next page shows it at once, and its sync goes on where this one ended.
import type { socket, user } from "@posthouse/client";
import type { Chats, ChatState } from "./chats";
import type { Kept } from "./kept";
import type { Tabs } from "./tabs";
import type { Users } from "./users";

/** Changes within this time are written together. */
const GATHER_MS = 1_000;

/**
 * Writes what changes of a list, in one tab: what two of them have is of two moments, and a cursor of one with a chat of the other would be
 * a gap. What is written has all that is of before its cursor, and may have more, which the sync says again.
 */
export class ListKeeper {
    readonly #kept: Kept;
    readonly #chats: Chats;
    readonly #users: Users;
    /** States are replaced and never modified: another one is a change. */
    readonly #written = new Map<string, ChatState>();
    readonly #profiles = new Map<string, user.UserProfile>();
    #cursor: string | undefined;
    #writtenCursor: string | undefined;
    #isElected = false;
    #isFirst = true;
    #isOver = false;
    #timer: ReturnType<typeof setTimeout> | undefined;
    #lastWrite: Promise<void> = Promise.resolve();

    constructor(kept: Kept, chats: Chats, users: Users, tabs: Tabs) {
        this.#kept = kept;
        this.#chats = chats;
        this.#users = users;
        void tabs.elected("list").then(() => {
            this.#isElected = true;
            this.#plan();
        });
        chats.subscribe(() => this.#plan());
        users.subscribe(() => this.#plan());
    }

    /** Notes a page that the list has taken. Between two pages the list is not yet of the cursor. */
    synced({ cursor, more }: socket.SyncPage): void {
        if (more) return;
        this.#cursor = cursor;
        this.#plan();
    }

    /** Writes what is not yet written, as before the page goes away. */
    flush(): Promise<void> {
        clearTimeout(this.#timer);
        this.#timer = undefined;
        // Where the browser keeps nothing, the next page asks for all.
        this.#lastWrite = this.#lastWrite.then(() => this.#write()).catch(() => undefined);
        return this.#lastWrite;
    }

    close(): void {
        this.#isOver = true;
        clearTimeout(this.#timer);
    }

    #plan(): void {
        if (this.#isOver || !this.#isElected || this.#cursor === undefined) return;
        this.#timer ??= setTimeout(() => void this.flush(), GATHER_MS);
    }

    async #write(): Promise<void> {
        if (this.#isOver || !this.#isElected || this.#cursor === undefined) return;
        const cursor = this.#cursor;
        const all = this.#chats.sorted;
        const chats = all.filter((state) => this.#written.get(state.chat) !== state);
        const present = new Set(all.map(({ chat }) => chat));
        const gone = [...this.#written.keys()].filter((chat) => !present.has(chat));
        const profiles = this.#named(all).filter((profile) => this.#profiles.get(profile.user_id) !== profile);
        const isSame = cursor === this.#writtenCursor && chats.length + gone.length + profiles.length === 0;
        if (isSame) return;
        // What is there may be of another tab, of a later moment or an earlier one.
        await this.#kept.keepList({
            cursor,
            chats: chats.map(withoutPassing),
            gone: this.#isFirst ? "all" : gone,
            profiles,
        });
        this.#isFirst = false;
        this.#writtenCursor = cursor;
        for (const state of chats) this.#written.set(state.chat, state);
        for (const chat of gone) this.#written.delete(chat);
        for (const profile of profiles) this.#profiles.set(profile.user_id, profile);
    }

    /** Returns whom the list names, as far as they are known. */
    #named(chats: readonly ChatState[]): user.UserProfile[] {
        const ids = chats.flatMap(({ other, entries }) => [other ?? [], entries.at(-1)?.sender ?? []].flat());
        return [...new Set(ids)].flatMap((id) => this.#users.known(id) ?? []);
    }
}

/** Returns a state to be kept: a text that disappears is not written to a disk, where nothing would remove it while the browser is closed. */
function withoutPassing(state: ChatState): ChatState {
    if (state.entries.every(({ expires_at_ms }) => expires_at_ms === undefined)) return state;
    const entries = state.entries.map((entry) => {
        if (entry.expires_at_ms === undefined) return entry;
        const { attachments: _, mentions: __, forwarded: ___, changes: ____, ...left } = entry;
        return { ...left, body: "", expired: true };
    });
    return { ...state, entries };
}

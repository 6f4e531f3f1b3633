// The user's chats in the order of the list, and how the connection is.
import { ChatList, type Event, type socket } from "@posthouse/client";
import { Source } from "../shared/source";

export type ChatState = socket.ChatState;

/** `connecting` before the first connection, `offline` between two, `ended` when there will be no other. */
export type ConnectionState = "connecting" | "online" | "offline" | "ended";

export class Connection extends Source {
    state: ConnectionState = "connecting";
    /** For the reader of a log. */
    why = "";
    /** What the last connection was closed with. */
    closeCode: number | undefined;

    set(state: ConnectionState, why = "", closeCode?: number): void {
        // An attempt that fails before the first connection is news, and one after another is not.
        this.state = state;
        this.why = why;
        this.closeCode = closeCode;
        this.changed();
    }
}

export class Chats extends Source {
    readonly #list: ChatList;
    /** Whether the first sync is complete: an empty list is empty then, and not unknown. */
    isComplete = false;
    #sorted: ChatState[] | undefined;

    constructor(user: string) {
        super();
        this.#list = new ChatList(user);
    }

    get(chat: string): ChatState | undefined {
        return this.#list.get(chat);
    }

    get unread(): { unread: number; mentions: number } {
        return this.#list.unread;
    }

    /** Favourites first, then those with the newest entries. */
    get sorted(): readonly ChatState[] {
        this.#sorted ??= this.#list.chats.sort(
            (one, other) =>
                Number(other.own.favourite) - Number(one.own.favourite) ||
                lastAt(other) - lastAt(one) ||
                one.chat.localeCompare(other.chat),
        );
        return this.#sorted;
    }

    /** Takes the list that an earlier page kept. What has changed since comes with the sync from `cursor`. */
    recall({ chats, cursor }: { chats: ChatState[]; cursor: string }, nowMs: number): void {
        const page = { chats, cursor, more: false, unread: 0, mentions: 0 };
        this.#list.apply({ type: "synced", page });
        this.isComplete = true;
        this.expire(nowMs);
    }

    take(event: Event): void {
        this.#list.apply(event);
        if (event.type === "synced" && !event.page.more) this.isComplete = true;
        this.#touch();
    }

    expire(nowMs: number): void {
        this.#list.expire(nowMs);
        this.#touch();
    }

    #touch(): void {
        this.#sorted = undefined;
        this.changed();
    }
}

function lastAt(chat: ChatState): number {
    return chat.entries.at(-1)?.sent_at_ms ?? 0;
}

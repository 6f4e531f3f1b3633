// The pinned messages of chats that were opened.
import { QueryError, type Session, type socket } from "@posthouse/client";
import { Reading } from "../shared/reading";
import { Source } from "../shared/source";

/** Pins of a page; a chat with more shows the last ones. */
const PAGE = 50;
/** Several pins at once are one question. */
const GATHER_MS = 200;

type Pinned = { messages: readonly socket.Message[]; reading: Reading };

const CHANGES: ReadonlySet<socket.Message["kind"]> = new Set(["pin", "unpin", "delete", "delete_range"]);

export class Pins extends Source {
    readonly #session: Pick<Session, "pins">;
    readonly #pins = new Map<string, Pinned>();
    readonly #timers = new Map<string, ReturnType<typeof setTimeout>>();

    constructor(session: Pick<Session, "pins">) {
        super();
        this.#session = session;
    }

    /** Returns what is pinned in a chat, the last one first; nothing before it is known. */
    of(chat: string): readonly socket.Message[] {
        return this.#pins.get(chat)?.messages ?? [];
    }

    /** Fetches the pins of a chat, which are kept from then on. */
    open(chat: string): Promise<void> {
        const known = this.#pins.get(chat);
        if (known) return known.reading.again();
        const pinned: Pinned = {
            messages: [],
            reading: new Reading((isNewest) => this.#read(chat, pinned, isNewest)),
        };
        this.#pins.set(chat, pinned);
        return pinned.reading.again();
    }

    /** Takes an entry that may change what is pinned. */
    take({ chat, kind, target_seq }: socket.Message): void {
        const known = this.#pins.get(chat)?.messages;
        const isPinned = known?.some(({ seq }) => seq === target_seq) === true;
        const isEdit = kind === "edit" && isPinned;
        if (!known || !(CHANGES.has(kind) || isEdit)) return;
        if (kind === "delete" && !isPinned) return;
        clearTimeout(this.#timers.get(chat));
        this.#timers.set(
            chat,
            setTimeout(() => void this.open(chat), GATHER_MS),
        );
    }

    /** Entries may have come while there was no connection. */
    reload(): void {
        for (const chat of this.#pins.keys()) void this.open(chat);
    }

    async #read(chat: string, pinned: Pinned, isNewest: () => boolean): Promise<void> {
        try {
            const { messages } = await this.#session.pins(chat, { limit: PAGE });
            if (!isNewest()) return;
            pinned.messages = messages;
            this.changed();
        } catch (error) {
            // Without a connection the next one asks again.
            if (!(error instanceof QueryError)) throw error;
        }
    }
}

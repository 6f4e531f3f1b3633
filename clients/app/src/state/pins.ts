// The pinned messages of chats that were opened.
import { QueryError, type Session, type socket } from "@posthouse/client";
import { Source } from "../shared/source";

/** Pins of a page; a chat with more shows the last ones. */
const PAGE = 50;
/** Several pins at once are one question. */
const GATHER_MS = 200;

const CHANGES: ReadonlySet<socket.Message["kind"]> = new Set(["pin", "unpin", "delete", "delete_range"]);

export class Pins extends Source {
    readonly #session: Pick<Session, "pins">;
    readonly #pins = new Map<string, readonly socket.Message[]>();
    readonly #timers = new Map<string, ReturnType<typeof setTimeout>>();

    constructor(session: Pick<Session, "pins">) {
        super();
        this.#session = session;
    }

    /** Returns what is pinned in a chat, the last one first; nothing before it is known. */
    of(chat: string): readonly socket.Message[] {
        return this.#pins.get(chat) ?? [];
    }

    /** Fetches the pins of a chat, which are kept from then on. */
    async open(chat: string): Promise<void> {
        if (!this.#pins.has(chat)) this.#pins.set(chat, []);
        try {
            const { messages } = await this.#session.pins(chat, { limit: PAGE });
            this.#pins.set(chat, messages);
            this.changed();
        } catch (error) {
            // Without a connection the next one asks again.
            if (!(error instanceof QueryError)) throw error;
        }
    }

    /** Takes an entry that may change what is pinned. */
    take({ chat, kind, target_seq }: socket.Message): void {
        const known = this.#pins.get(chat);
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
}

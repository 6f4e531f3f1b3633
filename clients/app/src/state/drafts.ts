// What the user has written and not sent: here at once, in this browser in a moment, and on their other devices a little later.
import type { Identity, socket } from "@posthouse/client";
import type { Draft, Kept } from "./kept";
import { Source } from "../shared/source";

/** A pause in which nothing is typed. */
const PAUSE_MS = 1_500;
/** The messenger keeps drafts of at most this many bytes; a longer one stays in this browser. */
const MAX_SHARED_BYTES = 4_096;

const EMPTY: Draft = { body: "" };

/** A draft on its way to the messenger: whether another one follows it, and what came of the chat meanwhile. */
type Sharing = { isOutdated: boolean; came?: socket.OwnChatState };

export class Drafts extends Source {
    readonly #identity: Pick<Identity, "updateOwnState">;
    readonly #kept: Kept;
    readonly #drafts: Map<string, Draft>;
    /** Chats in which the user has typed since the messenger has the draft. */
    readonly #timers = new Map<string, ReturnType<typeof setTimeout>>();
    /** Chats of which the messenger has a draft. */
    readonly #shared = new Set<string>();
    readonly #sharing = new Map<string, Sharing>();
    /** What another tab of this browser is to show, too. */
    onChange: (chat: string, draft: Draft) => void = () => undefined;

    constructor(
        identity: Pick<Identity, "updateOwnState">,
        kept: Kept,
        earlier: ReadonlyArray<Draft & { chat: string }>,
    ) {
        super();
        this.#identity = identity;
        this.#kept = kept;
        this.#drafts = new Map(earlier.map(({ chat, ...draft }) => [chat, draft]));
    }

    /** Takes of which chats the messenger had a draft, from the list of an earlier page. The drafts themselves are here. */
    recall(chats: ReadonlyArray<Pick<socket.ChatState, "chat" | "own">>): void {
        for (const { chat, own } of chats) if (own.draft) this.#shared.add(chat);
    }

    get(chat: string): Draft {
        return this.#drafts.get(chat) ?? EMPTY;
    }

    set(chat: string, draft: Draft): void {
        this.#here(chat, draft);
        this.onChange(chat, draft);
        clearTimeout(this.#timers.get(chat));
        this.#timers.set(
            chat,
            setTimeout(() => this.#share(chat), PAUSE_MS),
        );
    }

    /** The draft was sent. */
    clear(chat: string): void {
        this.#here(chat, EMPTY);
        this.onChange(chat, EMPTY);
        clearTimeout(this.#timers.get(chat));
        this.#share(chat);
    }

    /** Takes what the messenger has, unless the user is typing here. */
    take(chat: string, own: socket.OwnChatState): void {
        if (own.draft) this.#shared.add(chat);
        else if (!this.#shared.delete(chat)) return;
        const sharing = this.#sharing.get(chat);
        // It may be of before what is on its way: a draft that was just sent would stand in the field again.
        if (sharing) sharing.came = own;
        else this.#adopt(chat, own);
    }

    /** Shows what is written in another tab of this browser, which keeps it and shares it. */
    show(chat: string, draft: Draft): void {
        clearTimeout(this.#timers.get(chat));
        this.#timers.delete(chat);
        this.#set(chat, draft);
        this.changed("at once");
    }

    #adopt(chat: string, { draft }: socket.OwnChatState): void {
        if (this.#timers.has(chat)) return;
        this.#here(
            chat,
            draft
                ? { body: draft.body, ...(draft.reply_to !== undefined && { replyTo: draft.reply_to }) }
                : EMPTY,
        );
    }

    #set(chat: string, draft: Draft): void {
        if (isEmpty(draft)) this.#drafts.delete(chat);
        else this.#drafts.set(chat, draft);
    }

    #here(chat: string, draft: Draft): void {
        this.#set(chat, draft);
        const kept = isEmpty(draft) ? this.#kept.dropDraft(chat) : this.#kept.keepDraft(chat, draft);
        // Where the browser keeps nothing, it is in this page.
        kept.catch(() => undefined);
        // A field that shows it would fall back to what was there before the key.
        this.changed("at once");
    }

    /** Shares a draft behind the one of before: of two on their way the messenger might keep the older one. */
    #share(chat: string): void {
        this.#timers.delete(chat);
        const sharing = this.#sharing.get(chat);
        if (sharing) sharing.isOutdated = true;
        else void this.#send(chat);
    }

    async #send(chat: string): Promise<void> {
        const { body, replyTo } = this.get(chat);
        if (body === "" && !this.#shared.has(chat)) return;
        if (new TextEncoder().encode(body).length > MAX_SHARED_BYTES) return;
        const draft = { body, ...(replyTo !== undefined && { reply_to: replyTo }) };
        const sharing: Sharing = { isOutdated: false };
        this.#sharing.set(chat, sharing);
        // Without a connection it is in this browser, and the next change shares it.
        const kept = await this.#identity.updateOwnState(chat, { draft }).catch(() => undefined);
        this.#sharing.delete(chat);
        // What says so to all devices may come later, and the draft be empty by then.
        if (kept && body !== "") this.#shared.add(chat);
        const { isOutdated, came } = sharing;
        if (isOutdated) return this.#send(chat);
        if (came && (!kept || came.version > kept.version)) this.#adopt(chat, came);
    }
}

function isEmpty({ body, replyTo }: Draft): boolean {
    return body === "" && replyTo === undefined;
}

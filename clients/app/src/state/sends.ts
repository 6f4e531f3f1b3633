// What the user has sent and is not yet an entry, with the state that is true of it.
import { newKey, type ErrorCode, type Event, type Outgoing, type Post, type Session } from "@posthouse/client";
import type { Kept, Refused } from "./kept";
import { Source } from "../shared/source";

/** `waiting`: not known to have arrived. `accepted`: in the log, and cannot be lost. `stored`: it has a place, and is shown there in a moment. */
export type SendState = "waiting" | "accepted" | "stored" | "refused";

export type Sending = { chat: string; key: string; post: Post; state: SendState; code?: ErrorCode; at: number };

/** A refusal of what has no place of its own on the screen: of an edit, a deletion, a reaction. */
export type Notice = { chat: string; kind: Post["kind"]; code: ErrorCode };

export class Sends extends Source {
    readonly #session: Pick<Session, "send">;
    readonly #kept: Kept;
    /** In the order in which they were sent. */
    readonly #sendings = new Map<string, Sending>();
    onRefusedChange: (notice: Notice) => void = () => undefined;

    /** Takes what was kept of an earlier page, which the session sends again by itself. */
    constructor(
        session: Pick<Session, "send">,
        kept: Kept,
        earlier: { outgoing: Awaited<ReturnType<Kept["load"]>>; refused: Refused[] },
    ) {
        super();
        this.#session = session;
        this.#kept = kept;
        for (const { code, ...outgoing } of earlier.refused) {
            this.#sendings.set(outgoing.key, { ...outgoing, state: "refused", code, at: 0 });
        }
        for (const outgoing of earlier.outgoing) {
            this.#sendings.set(outgoing.key, { ...outgoing, state: "waiting", at: 0 });
        }
    }

    /** Messages of a chat that are not yet entries. */
    textsOf(chat: string): Sending[] {
        return [...this.#sendings.values()].filter((sending) => sending.chat === chat && isText(sending.post));
    }

    /** Whether a change of an entry is on its way. */
    isChanging(chat: string, seq: number): boolean {
        for (const { chat: of, post } of this.#sendings.values()) {
            if (of === chat && "seq" in post && post.seq === seq) return true;
        }
        return false;
    }

    send(chat: string, post: Post, key: string = newKey()): void {
        this.#sendings.set(key, { chat, key, post, state: "waiting", at: Date.now() });
        this.changed();
        // What becomes of it comes as an event; one that cannot be kept is not sent.
        this.#session.send(chat, post, key).catch((error: unknown) => {
            if (!(error instanceof Error) || error.name !== "SendError") this.#refused(key, "internal");
        });
    }

    /** Sends what a tab that is gone has left. */
    adopt(left: readonly Outgoing[]): void {
        for (const { chat, key, post } of left) this.send(chat, post, key);
    }

    /** Sends what was refused once more: as another message, since the first one is refused for good. */
    retry(key: string): void {
        const sending = this.#sendings.get(key);
        if (sending?.state !== "refused") return;
        this.discard(key);
        this.send(sending.chat, sending.post);
    }

    /** Forgets what was refused. */
    discard(key: string): void {
        this.#sendings.delete(key);
        this.#kept.dropRefused(key).catch(() => undefined);
        this.changed();
    }

    /** Takes what the session says. `isFollowed` is whether the entry of a stored message will come. */
    take({ key, state }: Extract<Event, { type: "send" }>, isFollowed: boolean): void {
        const sending = this.#sendings.get(key);
        if (!sending) return;
        if (state.state === "failed") this.#refused(key, state.code);
        else if (state.state === "accepted") this.#set(key, { state: "accepted" });
        else if (state.state === "stored" && isFollowed && isText(sending.post))
            this.#set(key, { state: "stored" });
        else if (state.state === "stored") this.settle(key);
    }

    /** Notes that it is an entry now. */
    settle(key: string): void {
        if (this.#sendings.delete(key)) this.changed();
    }

    #refused(key: string, code: ErrorCode): void {
        const sending = this.#sendings.get(key);
        if (!sending) return;
        if (isText(sending.post)) {
            this.#set(key, { state: "refused", code });
            const refused = { chat: sending.chat, key, post: sending.post, code };
            // Where the browser keeps nothing, it is in this page.
            this.#kept.keepRefused(refused).catch(() => undefined);
        } else {
            this.settle(key);
            this.onRefusedChange({ chat: sending.chat, kind: sending.post.kind, code });
        }
    }

    #set(key: string, fields: Partial<Sending>): void {
        const sending = this.#sendings.get(key);
        if (sending) this.#sendings.set(key, { ...sending, ...fields });
        this.changed();
    }
}

function isText(post: Post): boolean {
    return post.kind === "text" || post.kind === "forward";
}

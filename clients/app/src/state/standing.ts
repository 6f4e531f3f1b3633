// What moderators decided about the user: whether they may write, and until when they may not.
import { CallError, reports, type Identity, type moderation } from "@posthouse/client";
import { Source } from "./source";

export class Standing extends Source {
    readonly #identity: Identity;
    #own: moderation.OwnModeration = { sanctions: [], appeals: [], moderates: false };

    constructor(identity: Identity) {
        super();
        this.#identity = identity;
    }

    /** The newest first. */
    get sanctions(): readonly moderation.Sanction[] {
        return this.#own.sanctions;
    }

    /** Whether the user is a moderator. */
    get moderates(): boolean {
        return this.#own.moderates;
    }

    appealOf(sanction: string): moderation.Appeal | undefined {
        return this.#own.appeals.find((appeal) => appeal.sanction === sanction);
    }

    /** Returns the mute that keeps the user from writing in a chat: of several, the one that lasts longest. */
    muteIn(chat: string, nowMs: number): moderation.Sanction | undefined {
        return this.sanctions
            .filter((sanction) => {
                const isHere = sanction.chat == null || sanction.chat === chat;
                return sanction.kind === "mute" && isHere && isInForce(sanction, nowMs);
            })
            .sort((one, other) => (other.until_ms ?? Infinity) - (one.until_ms ?? Infinity))[0];
    }

    /** Fetches it. Nothing is pushed of it: a refusal is what tells a client to look. */
    async load(): Promise<void> {
        try {
            const own = await reports.own(this.#identity);
            this.#own = {
                sanctions: own.sanctions ?? [],
                appeals: own.appeals ?? [],
                moderates: own.moderates === true,
            };
            this.changed();
        } catch (error) {
            // A messenger without moderators has decided nothing.
            if (!(error instanceof CallError)) throw error;
        }
    }

    async appeal(sanction: string, text: string): Promise<void> {
        const appeal = await reports.appeal(this.#identity, sanction, text);
        this.#own = { ...this.#own, appeals: [...this.#own.appeals, appeal] };
        this.changed();
    }
}

/** Returns whether a sanction holds: it was not lifted, and its time is not over. */
export function isInForce({ lifted, until_ms }: moderation.Sanction, nowMs: number): boolean {
    return lifted == null && (until_ms ?? Infinity) > nowMs;
}

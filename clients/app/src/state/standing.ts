// What moderation says of the user: what moderators decided, as until when the user may not write, and whether the user is a moderator. The
// tenant's manifest names those, and the messenger looks at it with each call; here it says what is shown.
import { CallError, reports, type Identity, type moderation } from "@posthouse/client";
import { Reading } from "../shared/reading";
import { Source } from "../shared/source";

export class Standing extends Source {
    /** Whether the user is a moderator. Absent until the messenger has said it. */
    moderates: boolean | undefined;
    /** Why it is not known. */
    error: unknown;
    readonly #identity: Pick<Identity, "call">;
    readonly #reading = new Reading((isNewest) => this.#read(isNewest));
    #own: Pick<moderation.OwnModeration, "sanctions" | "appeals"> = { sanctions: [], appeals: [] };

    constructor(identity: Pick<Identity, "call">) {
        super();
        this.#identity = identity;
    }

    /** The newest first. */
    get sanctions(): readonly moderation.Sanction[] {
        return this.#own.sanctions;
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

    /** Fetches it. Nothing is pushed of it: `Workspace` says when it is looked for. */
    load(): Promise<void> {
        return this.#reading.again();
    }

    /** The messenger has refused what moderators may. */
    loseRole(): void {
        this.moderates = false;
        this.#reading.outdate();
        this.changed();
    }

    async appeal(sanction: string, text: string): Promise<void> {
        const appeal = await reports.appeal(this.#identity, sanction, text);
        this.#own = { ...this.#own, appeals: [...this.#own.appeals, appeal] };
        this.#reading.outdate();
        this.changed();
    }

    async #read(isNewest: () => boolean): Promise<void> {
        try {
            const own = await reports.own(this.#identity);
            if (!isNewest()) return;
            this.#own = { sanctions: own.sanctions ?? [], appeals: own.appeals ?? [] };
            this.moderates = own.moderates === true;
            this.error = undefined;
        } catch (error) {
            if (!(error instanceof CallError)) throw error;
            if (!isNewest()) return;
            // A messenger without moderators has decided nothing. After another fault, what was known is still the best guess.
            if (error.status === 404) this.moderates = false;
            else this.error = error;
        }
        this.changed();
    }
}

/** Returns whether a sanction holds: it was not lifted, and its time is not over. */
export function isInForce({ lifted, until_ms }: moderation.Sanction, nowMs: number): boolean {
    return lifted == null && (until_ms ?? Infinity) > nowMs;
}

// Whether the user is one of the moderators whom the tenant's manifest names. The messenger decides it with each call; here it says what is shown.
import { CallError, type Identity, type moderation } from "@posthouse/client";
import { Source } from "./source";

export class Moderator extends Source {
    /** Absent until the messenger has said it. */
    is: boolean | undefined;
    /** Why it is not known. */
    error: unknown;
    readonly #identity: Pick<Identity, "call">;

    constructor(identity: Pick<Identity, "call">) {
        super();
        this.#identity = identity;
    }

    /** Asks the messenger. */
    async look(): Promise<void> {
        try {
            const own: moderation.OwnModeration = await this.#identity.call("GET", "/api/moderation/own");
            this.is = own.moderates === true;
            this.error = undefined;
        } catch (error) {
            if (!(error instanceof CallError)) throw error;
            // A messenger without the service has no moderators. After another fault, what was known is still the best guess.
            if (error.status === 404) this.is = false;
            this.error = error;
        }
        this.changed();
    }

    /** The messenger has refused what moderators may. */
    lose(): void {
        this.is = false;
        this.changed();
    }
}

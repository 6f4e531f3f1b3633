// What pages say of themselves to which messages have links. The messenger fetches them, so that a site learns nothing of who reads.
import { CallError, files, type Identity, type media } from "@posthouse/client";
import { Source } from "../shared/source";

/** Lookups at a time. */
const MAX_LOOKUPS = 2;
/** Beyond it the oldest goes. */
const MAX_KEPT = 200;

export class Previews extends Source {
    readonly #identity: Identity;
    readonly #known = new Map<string, media.LinkPreview | undefined>();
    readonly #queue: string[] = [];
    #lookups = 0;

    constructor(identity: Identity) {
        super();
        this.#identity = identity;
    }

    get(url: string): media.LinkPreview | undefined {
        return this.#known.get(url);
    }

    /** Looks a link up that is on the screen. */
    want(url: string): void {
        if (this.#known.has(url)) return;
        this.#known.set(url, undefined);
        if (this.#known.size > MAX_KEPT) this.#known.delete(this.#known.keys().next().value!);
        this.#queue.push(url);
        this.#lookUp();
    }

    #lookUp(): void {
        while (this.#lookups < MAX_LOOKUPS) {
            const url = this.#queue.shift();
            if (url === undefined) return;
            this.#lookups += 1;
            files
                .preview(this.#identity, url)
                .then((preview) => {
                    this.#known.set(url, preview);
                    this.changed();
                })
                // A page that shows nothing has no preview, and one that was too much at once is asked for with the next message.
                .catch((error: unknown) => {
                    if (!(error instanceof CallError)) throw error;
                    if (error.isTemporary) this.#known.delete(url);
                })
                .finally(() => {
                    this.#lookups -= 1;
                    this.#lookUp();
                });
        }
    }
}

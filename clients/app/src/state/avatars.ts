// Pictures of users and groups. Who has none is asked for once; the letters of the name stand there.
import { CallError, files, type Identity, type media } from "@posthouse/client";
import { Source } from "../shared/source";

/** Lookups at a time. */
const MAX_LOOKUPS = 4;

/** The picture of a user, or a file that a group has as its picture. */
export type Pictured = { user: string } | { file: string };

export class Avatars extends Source {
    readonly #identity: Identity;
    /** By what is pictured: an address that is good for minutes, and `undefined` for none. */
    readonly #links = new Map<string, string | undefined>();
    readonly #broken = new Set<string>();
    readonly #queue: Pictured[] = [];
    #lookups = 0;

    constructor(identity: Identity) {
        super();
        this.#identity = identity;
    }

    /** Returns where a picture is, as far as that is known. */
    get(of: Pictured): string | undefined {
        return this.#links.get(key(of));
    }

    /** Looks a picture up that is on the screen. */
    want(of: Pictured): void {
        const name = key(of);
        if (this.#links.has(name)) return;
        this.#links.set(name, undefined);
        this.#queue.push(of);
        this.#lookUp();
    }

    /** Notes that an address shows nothing: it was too old, or the picture is gone. It is looked up once more. */
    lose(of: Pictured): void {
        const name = key(of);
        this.#links.delete(name);
        if (this.#broken.has(name)) this.#links.set(name, undefined);
        this.#broken.add(name);
        this.changed();
    }

    /** Notes that a user has another picture, or none any more. */
    renew(of: Pictured): void {
        this.#broken.delete(key(of));
        this.#links.delete(key(of));
        this.want(of);
        this.changed();
    }

    #lookUp(): void {
        while (this.#lookups < MAX_LOOKUPS) {
            const of = this.#queue.shift();
            if (of === undefined) return;
            this.#lookups += 1;
            const found =
                "user" in of ? files.avatar(this.#identity, of.user) : files.file(this.#identity, of.file);
            found
                .then(({ links }) => this.#take(of, links))
                // Without one the letters stay, and after a fault the next page looks again.
                .catch((error: unknown) => {
                    if (!(error instanceof CallError)) throw error;
                })
                .finally(() => {
                    this.#lookups -= 1;
                    this.#lookUp();
                });
        }
    }

    #take(of: Pictured, links: media.FileLinks | null | undefined): void {
        if (!links) return;
        this.#links.set(key(of), links.thumbnail ?? links.content);
        this.changed();
    }
}

function key(of: Pictured): string {
    return "user" in of ? `user/${of.user}` : `file/${of.file}`;
}

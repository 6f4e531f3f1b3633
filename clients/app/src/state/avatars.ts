// Pictures of users and groups. Users of a screen are looked up together, once; for who has no picture the letters of the name stand there.
import { CallError, files, type Identity, type media } from "@posthouse/client";
import { Source } from "../shared/source";

/** Lookups at a time. */
const MAX_LOOKUPS = 4;
/** Users of a lookup, by the messenger. */
const MAX_USERS = 100;
/** What comes to the screen within this time is looked up together. */
const GATHER_MS = 20;

/** The picture of a user, or a file that a group has as its picture. */
export type Pictured = { user: string } | { file: string };

export class Avatars extends Source {
    readonly #identity: Identity;
    /** By what is pictured: an address that is good for minutes, and `undefined` for none. */
    readonly #links = new Map<string, string | undefined>();
    readonly #broken = new Set<string>();
    #users: string[] = [];
    readonly #files: string[] = [];
    #timer: ReturnType<typeof setTimeout> | undefined;
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
        if ("user" in of) this.#users.push(of.user);
        else this.#files.push(of.file);
        this.#timer ??= setTimeout(() => {
            this.#timer = undefined;
            this.#lookUp();
        }, GATHER_MS);
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
            const found = this.#next();
            if (!found) return;
            this.#lookups += 1;
            found
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

    /** Looks up what waits: users together, a file of a group by itself. */
    #next(): Promise<void> | undefined {
        if (this.#users.length > 0) {
            const users = this.#users.slice(0, MAX_USERS);
            this.#users = this.#users.slice(MAX_USERS);
            return files.avatars(this.#identity, users).then((found) => {
                for (const { owner, links } of found) this.#take({ user: owner }, links);
            });
        }
        const file = this.#files.shift();
        if (file === undefined) return undefined;
        return files.file(this.#identity, file).then(({ links }) => this.#take({ file }, links));
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

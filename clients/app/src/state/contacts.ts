// Whom the user has as a contact, and whom they block.
import { CallError, contacts, type Identity, type user } from "@posthouse/client";
import { Reading } from "../shared/reading";
import { Source } from "../shared/source";

export class Contacts extends Source {
    readonly #identity: Identity;
    readonly #reading = new Reading((isNewest) => this.#read(isNewest));
    #contacts = new Map<string, user.Contact>();
    #blocked = new Set<string>();

    constructor(identity: Identity) {
        super();
        this.#identity = identity;
    }

    /** The contacts by name. */
    get all(): user.Contact[] {
        const name = ({ name, profile }: user.Contact) => name ?? profile.display_name;
        return [...this.#contacts.values()].sort((one, other) => name(one).localeCompare(name(other)));
    }

    get blocked(): string[] {
        return [...this.#blocked];
    }

    get(id: string): user.Contact | undefined {
        return this.#contacts.get(id);
    }

    isBlocked(id: string): boolean {
        return this.#blocked.has(id);
    }

    /** Fetches both. Other devices change them, and nothing is pushed of it. */
    load(): Promise<void> {
        return this.#reading.again();
    }

    /** Puts a user into the contacts, or changes the user's own name for them. */
    async keep(id: string, name?: string): Promise<void> {
        this.#contacts.set(id, await contacts.put(this.#identity, id, name));
        this.#isChanged();
    }

    async drop(id: string): Promise<void> {
        await contacts.remove(this.#identity, id);
        this.#contacts.delete(id);
        this.#isChanged();
    }

    async block(id: string): Promise<void> {
        await contacts.block(this.#identity, id);
        this.#blocked.add(id);
        this.#isChanged();
    }

    async unblock(id: string): Promise<void> {
        await contacts.unblock(this.#identity, id);
        this.#blocked.delete(id);
        this.#isChanged();
    }

    #isChanged(): void {
        this.#reading.outdate();
        this.changed();
    }

    async #read(isNewest: () => boolean): Promise<void> {
        try {
            const [all, blocks] = await Promise.all([
                contacts.list(this.#identity),
                contacts.blocked(this.#identity),
            ]);
            if (!isNewest()) return;
            this.#contacts = new Map(all.map((contact) => [contact.profile.user_id, contact]));
            this.#blocked = new Set(blocks.map(({ user_id }) => user_id));
            this.changed();
        } catch (error) {
            // The next connection looks again.
            if (!(error instanceof CallError)) throw error;
        }
    }
}

// Whom the user has as a contact, and whom they block.
import { CallError, people, type Identity, type user } from "@posthouse/client";
import { Source } from "./source";

export class People extends Source {
    readonly #identity: Identity;
    #contacts = new Map<string, user.Contact>();
    #blocked = new Set<string>();

    constructor(identity: Identity) {
        super();
        this.#identity = identity;
    }

    /** The contacts by name. */
    get contacts(): user.Contact[] {
        const name = ({ name, profile }: user.Contact) => name ?? profile.display_name;
        return [...this.#contacts.values()].sort((one, other) => name(one).localeCompare(name(other)));
    }

    get blocked(): string[] {
        return [...this.#blocked];
    }

    contact(id: string): user.Contact | undefined {
        return this.#contacts.get(id);
    }

    isBlocked(id: string): boolean {
        return this.#blocked.has(id);
    }

    /** Fetches both. Other devices change them, and nothing is pushed of it. */
    async load(): Promise<void> {
        try {
            const [contacts, blocks] = await Promise.all([
                people.contacts(this.#identity),
                people.blocks(this.#identity),
            ]);
            this.#contacts = new Map(contacts.map((contact) => [contact.profile.user_id, contact]));
            this.#blocked = new Set(blocks.map(({ user_id }) => user_id));
            this.changed();
        } catch (error) {
            // The next connection looks again.
            if (!(error instanceof CallError)) throw error;
        }
    }

    /** Puts a user into the contacts, or changes the user's own name for them. */
    async keep(id: string, name?: string): Promise<void> {
        this.#contacts.set(id, await people.putContact(this.#identity, id, name));
        this.changed();
    }

    async drop(id: string): Promise<void> {
        await people.removeContact(this.#identity, id);
        this.#contacts.delete(id);
        this.changed();
    }

    async block(id: string): Promise<void> {
        await people.block(this.#identity, id);
        this.#blocked.add(id);
        this.changed();
    }

    async unblock(id: string): Promise<void> {
        await people.unblock(this.#identity, id);
        this.#blocked.delete(id);
        this.changed();
    }
}

// Whom a user has as a contact, and whom they block. All throw a `CallError`.
import type { Block } from "./generated/chat.js";
import type { Contact } from "./generated/user.js";
import type { Identity } from "./messenger.js";
import { all } from "./pages.js";

/** Returns all contacts, by id. */
export function list(identity: Identity): Promise<Contact[]> {
    return all(identity, "/api/users/me/contacts");
}

/** Puts a user into the contacts, or changes the user's own name for them. */
export function put(identity: Identity, user: string, name?: string): Promise<Contact> {
    return identity.call("PUT", `/api/users/me/contacts/${user}`, name === undefined ? {} : { name });
}

export async function remove(identity: Identity, user: string): Promise<void> {
    await identity.call("DELETE", `/api/users/me/contacts/${user}`);
}

/** Returns whom the user blocks. */
export function blocked(identity: Identity): Promise<Block[]> {
    return all(identity, "/api/blocks");
}

/** Blocks a user: neither of the two reaches the other from then on. */
export async function block(identity: Identity, user: string): Promise<void> {
    await identity.call("PUT", `/api/blocks/${user}`);
}

export async function unblock(identity: Identity, user: string): Promise<void> {
    await identity.call("DELETE", `/api/blocks/${user}`);
}

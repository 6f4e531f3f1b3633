// What a user has to do with others: the profile that they see, contacts, and whom the user blocks. All throw a `CallError`.
import type { Block } from "./generated/chat.js";
import type { Contact, OwnProfile, UpdateProfileRequest } from "./generated/user.js";
import type { Identity } from "./messenger.js";
import { all } from "./pages.js";

/** Returns the user's own profile, with the settings that no one else sees. */
export function me(identity: Identity): Promise<OwnProfile> {
    return identity.call("GET", "/api/users/me");
}

/** Changes it; absent fields stay. */
export function updateProfile(identity: Identity, request: UpdateProfileRequest): Promise<OwnProfile> {
    return identity.call("PATCH", "/api/users/me", request);
}

/** Returns all contacts, by id. */
export function contacts(identity: Identity): Promise<Contact[]> {
    return all(identity, "/api/users/me/contacts");
}

/** Puts a user into the contacts, or changes the user's own name for them. */
export function putContact(identity: Identity, user: string, name?: string): Promise<Contact> {
    return identity.call("PUT", `/api/users/me/contacts/${user}`, name === undefined ? {} : { name });
}

export async function removeContact(identity: Identity, user: string): Promise<void> {
    await identity.call("DELETE", `/api/users/me/contacts/${user}`);
}

/** Returns whom the user blocks. */
export function blocks(identity: Identity): Promise<Block[]> {
    return all(identity, "/api/blocks");
}

/** Blocks a user: neither of the two reaches the other from then on. */
export async function block(identity: Identity, user: string): Promise<void> {
    await identity.call("PUT", `/api/blocks/${user}`);
}

export async function unblock(identity: Identity, user: string): Promise<void> {
    await identity.call("DELETE", `/api/blocks/${user}`);
}

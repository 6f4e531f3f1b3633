// Users as the messenger describes them, how they are at present, and who of them is typing.
import { CallError, type Identity, type socket, type user } from "@posthouse/client";
import { Source } from "../shared/source";
import { likeness } from "./lookalikes";

/** Lookups at a time. */
const MAX_LOOKUPS = 4;
/** The messenger says so, and repeats nothing. */
const TYPING_MS = 6_000;

export type Profile = user.UserProfile;

export class Users extends Source {
    readonly #identity: Identity;
    readonly #profiles = new Map<string, Profile>();
    /** Users by what their names look like. */
    readonly #alike = new Map<string, Set<string>>();
    /** Those that are looked up or were not found; a new connection looks again. */
    readonly #asked = new Set<string>();
    readonly #queue: string[] = [];
    #lookups = 0;
    readonly #presences = new Map<string, socket.UserPresence>();
    readonly #typing = new Map<string, Map<string, ReturnType<typeof setTimeout>>>();

    constructor(identity: Identity) {
        super();
        this.#identity = identity;
    }

    /** Returns the profile of a user; it is looked up when it is not here, or of before the last connection. */
    get(id: string): Profile | undefined {
        if (!this.#asked.has(id)) {
            this.#asked.add(id);
            this.#queue.push(id);
            this.#lookUp();
        }
        return this.#profiles.get(id);
    }

    /** Returns the profile of a user if it is here. */
    known(id: string): Profile | undefined {
        return this.#profiles.get(id);
    }

    /** Returns whether the name of a user looks like that of another one who is here: their usernames tell them apart. */
    isLikeAnother(id: string): boolean {
        const profile = this.#profiles.get(id);
        return profile !== undefined && (this.#alike.get(likenessOf(profile))?.size ?? 0) > 1;
    }

    /** Takes profiles of an earlier page, which are looked up again. */
    recall(profiles: readonly Profile[]): void {
        for (const profile of profiles) this.#put(profile);
        this.changed();
    }

    /** Takes a profile that came by another way. */
    take(...profiles: readonly Profile[]): void {
        for (const profile of profiles) {
            this.#asked.add(profile.user_id);
            this.#put(profile);
        }
        this.changed();
    }

    presence(id: string): socket.UserPresence | undefined {
        return this.#presences.get(id);
    }

    typingIn(chat: string): string[] {
        return [...(this.#typing.get(chat)?.keys() ?? [])];
    }

    takePresence(presences: readonly socket.UserPresence[]): void {
        for (const presence of presences) this.#presences.set(presence.user, presence);
        this.changed();
    }

    takeTyping({ chat, user }: socket.TypingUser): void {
        const users = this.#typing.get(chat) ?? new Map();
        this.#typing.set(chat, users);
        clearTimeout(users.get(user));
        users.set(
            user,
            setTimeout(() => this.stopTyping(chat, user), TYPING_MS),
        );
        this.changed();
    }

    /** Who has sent a message types no more. */
    stopTyping(chat: string, user: string): void {
        const users = this.#typing.get(chat);
        clearTimeout(users?.get(user));
        if (users?.delete(user)) this.changed();
    }

    /** What was known may have changed while there was no connection. */
    doubt(): void {
        this.#asked.clear();
        this.changed();
    }

    /** Without a connection nothing says how users are. */
    loseSight(): void {
        for (const users of this.#typing.values()) for (const timer of users.values()) clearTimeout(timer);
        this.#typing.clear();
        this.#presences.clear();
        this.changed();
    }

    #put(profile: Profile): void {
        const { user_id } = profile;
        const before = this.#profiles.get(user_id);
        this.#profiles.set(user_id, profile);
        const likeness = likenessOf(profile);
        if (before) {
            if (likenessOf(before) === likeness) return;
            this.#alike.get(likenessOf(before))?.delete(user_id);
        }
        if (likeness === "") return;
        const alike = this.#alike.get(likeness) ?? new Set();
        this.#alike.set(likeness, alike.add(user_id));
    }

    #lookUp(): void {
        while (this.#lookups < MAX_LOOKUPS) {
            const id = this.#queue.shift();
            if (id === undefined) return;
            this.#lookups += 1;
            this.#identity
                .call<Profile>("GET", `/api/users/${id}`)
                .then((profile) => this.take(profile))
                // A user who is not found stays unknown; after a fault the next connection looks again.
                .catch((error: unknown) => {
                    if (!(error instanceof CallError)) throw error;
                })
                .finally(() => {
                    this.#lookups -= 1;
                    this.#lookUp();
                });
        }
    }
}

/** A deleted account has no name, and neither has what is no profile. */
function likenessOf({ deleted, display_name, username }: Profile): string {
    return deleted ? "" : likeness(display_name || username || "");
}

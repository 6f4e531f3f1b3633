// Names of members in a text that is written, and the words that call many of them.
import type { Post, socket } from "@posthouse/client";

/** A member, as far as a mention needs it. */
export type Named = { user_id: string; username: string; display_name: string };

const MAX_OFFERED = 6;

/**
 * Words that call many: everyone, who is connected, and who has a role. They are the same in every language, since all members read them. A
 * member of that name is called alone.
 */
export const CALLS = ["all", "here", "owner", "admins"] as const;
export type Call = (typeof CALLS)[number];

/** What of a message calls many, as a post has it. */
type Calling = Pick<Extract<Post, { kind: "text" }>, "mentionAll" | "mentionHere" | "mentionRoles">;

/** Returns what stands between an `@` and the caret, and nothing where no name is written. */
export function wordAt(text: string, caret: number): string | undefined {
    return /(?:^|[\s(])@([\p{L}\p{N}._-]*)$/u.exec(text.slice(0, caret))?.[1];
}

/** Returns the members whose names begin so, those whose usernames do first. */
export function completions<M extends Named>(word: string | undefined, members: readonly M[]): M[] {
    if (word === undefined) return [];
    const begun = word.toLocaleLowerCase();
    const byUsername = members.filter(({ username }) => username.toLowerCase().startsWith(begun));
    const byName = members.filter(
        (member) =>
            !byUsername.includes(member) &&
            member.display_name
                .toLocaleLowerCase()
                .split(/\s+/)
                .some((part) => part.startsWith(begun)),
    );
    return [...byUsername, ...byName].slice(0, MAX_OFFERED);
}

/** Returns the text with a name in place of its beginning, and where the caret is then. */
export function completed(text: string, caret: number, username: string): { text: string; caret: number } {
    const word = wordAt(text, caret) ?? "";
    const before = `${text.slice(0, caret - word.length)}${username} `;
    return { text: before + text.slice(caret).replace(/^ /, ""), caret: before.length };
}

/** Returns the ids of the members whom a text names. */
export function mentionedIn(text: string, members: readonly Named[]): string[] {
    const names = namesIn(text);
    return members.filter(({ username }) => names.has(username.toLowerCase())).map(({ user_id }) => user_id);
}

/** Returns the words that call many and begin so. */
export function callsOffered(word: string | undefined, members: readonly Named[]): Call[] {
    if (word === undefined) return [];
    return callsOf(members).filter((call) => call.startsWith(word.toLowerCase()));
}

/** Returns whom a text calls by such words. */
export function callsIn(text: string, members: readonly Named[]): Calling {
    const names = namesIn(text);
    const called = new Set(callsOf(members).filter((call) => names.has(call)));
    // The owner is an admin, too.
    const mentionRoles: Array<"owner" | "admin"> = called.has("admins")
        ? ["owner", "admin"]
        : called.has("owner")
          ? ["owner"]
          : [];
    return {
        ...(called.has("all") && { mentionAll: true }),
        ...(called.has("here") && { mentionHere: true }),
        ...(mentionRoles.length > 0 && { mentionRoles }),
    };
}

/** Returns the words by which a message calls many. */
export function callsOfMessage(
    message: Pick<socket.Message, "mentions_all" | "mentions_here" | "mention_roles">,
): Call[] {
    const { mentions_all, mentions_here, mention_roles = [] } = message;
    return CALLS.filter(
        (call) =>
            ({
                all: mentions_all === true,
                here: mentions_here === true,
                owner: mention_roles.includes("owner"),
                admins: mention_roles.includes("admin"),
            })[call],
    );
}

function callsOf(members: readonly Named[]): Call[] {
    return CALLS.filter((call) => !members.some(({ username }) => username.toLowerCase() === call));
}

function namesIn(text: string): Set<string> {
    return new Set(
        [...text.matchAll(/(?:^|[\s(])@([\w.-]+)/gu)].map(([, name]) =>
            name!.replace(/[.-]+$/, "").toLowerCase(),
        ),
    );
}

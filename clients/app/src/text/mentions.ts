// Names of members in a text that is written.

/** A member, as far as a mention needs it. */
export type Named = { user_id: string; username: string; display_name: string };

const MAX_OFFERED = 6;

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
    const names = new Set(
        [...text.matchAll(/(?:^|[\s(])@([\w.-]+)/gu)].map(([, name]) =>
            name!.replace(/[.-]+$/, "").toLowerCase(),
        ),
    );
    return members.filter(({ username }) => names.has(username.toLowerCase())).map(({ user_id }) => user_id);
}

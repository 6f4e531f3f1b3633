// What entries change of messages that were before them, by the rules by which the message service keeps the sum.
import type { Changes, Message } from "./generated/socket.js";

/** Users whom a message lists of those who reacted alike; beyond it they are counted only. */
const MAX_LISTED_REACTORS = 8;

export type Change = Message["kind"] | "replies_deleted";

/** What a deletion changes: of a message that is deleted, and of what deleted messages reply to. `replies` is how many of its replies are. */
export type Deletion = { change: "delete" | "replies_deleted"; replies: number };

/**
 * Returns what `deletion`, a `delete_range`, changes of the entries of a chat, by seq. It deletes the texts of its range that come before it, of its
 * `subject` or of everyone, that no entry before it has deleted, and passes over everything else.
 */
export function deletions(deletion: Message, entries: Iterable<Message>): Map<number, Deletion> {
    const { seq, subject, range } = deletion;
    const changes = new Map<number, Deletion>();
    const replies = new Map<number, number>();
    if (!range) return changes;
    for (const entry of entries) {
        const isInRange = entry.seq >= range.from_seq && entry.seq <= range.to_seq && entry.seq < seq;
        const isLeft = (entry.changes?.deleted_seq ?? Infinity) >= seq;
        const isMeant = subject === undefined || subject === entry.sender;
        if (!isInRange || entry.kind !== "text" || !isLeft || !isMeant) continue;
        changes.set(entry.seq, { change: "delete", replies: 0 });
        const repliedTo = entry.target_seq;
        if (repliedTo !== undefined) replies.set(repliedTo, (replies.get(repliedTo) ?? 0) + 1);
    }
    for (const [target, count] of replies) {
        changes.set(target, { change: changes.get(target)?.change ?? "replies_deleted", replies: count });
    }
    return changes;
}

/** Adds what entry `seq` changes of a message, `replies` of whose replies are deleted by it. Returns the sum as it was when the entry is included in it already. */
export function addChange(
    changes: Changes,
    seq: number,
    change: Change,
    user: string,
    emoji: string,
    replies = 0,
): Changes {
    if (seq <= changes.seq || change === "member_added" || change === "member_removed") return changes;
    const next: Changes = { ...changes, seq };
    switch (change) {
        case "text":
            next.replies = (next.replies ?? 0) + 1;
            next.last_reply_seq = seq;
            break;
        case "replies_deleted":
            setOrDrop(next, "replies", Math.max(0, (next.replies ?? 0) - replies));
            break;
        case "edit":
            next.edited_seq = seq;
            next.edits = (next.edits ?? 0) + 1;
            break;
        case "delete":
            setOrDrop(next, "replies", Math.max(0, (next.replies ?? 0) - replies));
            next.deleted_seq = seq;
            delete next.pinned_seq;
            delete next.reactions;
            break;
        case "pin":
            next.pinned_seq = seq;
            break;
        case "unpin":
            delete next.pinned_seq;
            break;
        case "reaction":
            react(next, user, emoji);
            break;
        case "reaction_removed":
            takeBack(next, user, emoji);
            break;
    }
    return next;
}

function react(changes: Changes, user: string, emoji: string): void {
    const reactions = (changes.reactions ?? []).map((of) => ({ ...of, users: [...(of.users ?? [])] }));
    let of = reactions.find((of) => of.emoji === emoji);
    if (!of) {
        of = { emoji, count: 0, users: [] };
        reactions.push(of);
    }
    of.count += 1;
    if (of.users.length < MAX_LISTED_REACTORS) of.users.push(user);
    changes.reactions = reactions;
}

function takeBack(changes: Changes, user: string, emoji: string): void {
    const left = (changes.reactions ?? [])
        .map((of) => {
            if (of.emoji !== emoji) return of;
            return { ...of, count: of.count - 1, users: (of.users ?? []).filter((other) => other !== user) };
        })
        .filter((of) => of.count > 0);
    if (left.length > 0) changes.reactions = left;
    else delete changes.reactions;
}

/** A count of zero is absent, as in what the server sends. */
function setOrDrop(changes: Changes, field: "replies", count: number): void {
    if (count > 0) changes[field] = count;
    else delete changes[field];
}

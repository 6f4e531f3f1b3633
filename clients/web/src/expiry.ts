import type { Message } from "./generated/socket.js";

/** Returns what is left of a text whose time has come, and nothing of any other entry. What is left says that there was one. */
export function expired(entry: Message, nowMs: number): Message | undefined {
    if (entry.expires_at_ms === undefined || nowMs < entry.expires_at_ms) return undefined;
    const left = { ...entry, body: "", expired: true };
    delete left.mentions;
    delete left.mentions_all;
    delete left.mention_roles;
    delete left.mentions_here;
    delete left.forwarded;
    delete left.attachments;
    delete left.changes;
    // That it was deleted is known on: what deletes a range passes over it.
    const { seq, deleted_seq } = entry.changes ?? {};
    if (seq !== undefined && deleted_seq !== undefined) left.changes = { seq, deleted_seq };
    return left;
}

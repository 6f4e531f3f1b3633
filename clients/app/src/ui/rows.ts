// What of a chat's log has a row on the screen.
import type { socket } from "@posthouse/client";
import type { Sending } from "../state/sends";

type Message = socket.Message;

/** A row: an entry, or a message that is not yet one. The key stays when the one becomes the other, and the row with it. */
export type Row = { key: string; isDayFirst: boolean; isFollowUp: boolean } & (
    { message: Message } | { sending: Sending }
);

/** Messages of one sender within this time stand together, below one name. */
const TOGETHER_MS = 5 * 60_000;

/** Kinds that have a row. The others are in what they changed, and a kind of a later release is skipped. */
const SHOWN: ReadonlySet<Message["kind"]> = new Set([
    ...(["text", "pin", "member_added", "member_removed", "role_changed"] as const),
    ...(["title_changed", "topic_changed", "avatar_changed", "slow_mode_changed", "ttl_changed"] as const),
]);

/** Returns the rows of entries, and behind them of what is on its way. */
export function rows(
    entries: readonly Message[],
    sendings: readonly Sending[],
    user: string,
    nowMs: number,
): Row[] {
    const shown: Row[] = [];
    const known = new Set<string>();
    let before: Message | undefined;
    for (const message of entries) {
        if (!SHOWN.has(message.kind)) continue;
        const isDayFirst = !before || !isSameDay(before.sent_at_ms, message.sent_at_ms);
        const isFollowUp =
            !isDayFirst && message.kind === "text" && isTogether(before, message.sender, message.sent_at_ms);
        known.add(message.key);
        shown.push({ key: `${message.sender}/${message.key}`, isDayFirst, isFollowUp, message });
        before = message;
    }
    const own = sendings.filter(({ key }) => !known.has(key));
    for (const sending of own) {
        const isFirst = sending === own[0];
        const isDayFirst = isFirst && before !== undefined && !isSameDay(before.sent_at_ms, nowMs);
        // As it will be once it is an entry: no row moves then.
        const isFollowUp = isFirst ? !isDayFirst && isTogether(before, user, nowMs) : true;
        shown.push({ key: `${user}/${sending.key}`, isDayFirst, isFollowUp, sending });
    }
    return shown;
}

/** Returns the row that an entry is at, or the next one: the entry itself may have none. */
export function indexOf(shown: readonly Row[], seq: number): number {
    const at = shown.findIndex((row) => "sending" in row || row.message.seq >= seq);
    return at === -1 ? shown.length - 1 : at;
}

/** Whether a message that a user sends at a time stands together with the one before it. */
function isTogether(before: Message | undefined, sender: string, atMs: number): boolean {
    return before?.kind === "text" && before.sender === sender && atMs - before.sent_at_ms < TOGETHER_MS;
}

function isSameDay(oneMs: number, otherMs: number): boolean {
    return new Date(oneMs).toDateString() === new Date(otherMs).toDateString();
}

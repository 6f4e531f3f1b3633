// Moments that a user chooses, in the time of this device.

const HOUR_MS = 3_600_000;
/** The messenger takes none that is later. */
export const MAX_AHEAD_MS = 366 * 24 * HOUR_MS;
const MORNING_HOUR = 9;

/** Returns a moment as a field of the type `datetime-local` has it. */
export function toField(atMs: number): string {
    const at = new Date(atMs);
    const two = (value: number) => String(value).padStart(2, "0");
    const day = `${String(at.getFullYear()).padStart(4, "0")}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
    return `${day}T${two(at.getHours())}:${two(at.getMinutes())}`;
}

/** Returns the moment of such a field, and nothing while it is not whole. */
export function fromField(value: string): number | undefined {
    const atMs = new Date(value).getTime();
    return Number.isNaN(atMs) ? undefined : atMs;
}

/** Returns the moments that are offered: in an hour, tomorrow morning, and on the morning of the next Monday. */
export function offeredMoments(nowMs: number): { hour: number; tomorrow: number; monday: number } {
    const morning = (days: number) => {
        const at = new Date(nowMs);
        at.setDate(at.getDate() + days);
        return at.setHours(MORNING_HOUR, 0, 0, 0);
    };
    const weekday = new Date(nowMs).getDay();
    return { hour: nowMs + HOUR_MS, tomorrow: morning(1), monday: morning((8 - weekday) % 7 || 7) };
}

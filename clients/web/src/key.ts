// The idempotency keys of messages.

/**
 * Returns a fresh key: a UUID of version 7, which begins with the time. Keys with an order spare the messenger the question whether it knows
 * one that is behind all that it has. Any other UUID is as good otherwise, and so is a clock that is wrong.
 */
export function newKey(nowMs: number = Date.now()): string {
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    const view = new DataView(bytes.buffer);
    view.setUint16(0, Math.floor(nowMs / 2 ** 32));
    view.setUint32(2, nowMs % 2 ** 32);
    view.setUint8(6, (view.getUint8(6) & 0x0f) | 0x70);
    view.setUint8(8, (view.getUint8(8) & 0x3f) | 0x80);
    const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
    return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}

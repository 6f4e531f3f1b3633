// How long a machine waits.
import type { Error as WireError } from "../generated/socket.js";

/** A send, a mark or a request without any answer is repeated after this time. */
export const ANSWER_PATIENCE_MS = 15_000;
/** Wait before a temporary refusal is tried again, when the server names none. */
export const RETRY_AFTER_MS = 500;

/** Returns how long to wait before what was refused is tried again. */
export function wait(error: WireError): number {
    return error.retry_after_ms ?? RETRY_AFTER_MS;
}

// Decides about connections, without one and without a clock: when to connect again, whether a server fell silent, when to
// replace the token.
import type { Connected } from "./generated/socket.js";

const FIRST_WAIT_MS = 500;
const LAST_WAIT_MS = 30_000;
/** A connection that lived this long was a good one: the next wait is short again. */
const GOOD_AFTER_MS = 60_000;
/** Wakes are heeded this far apart: a network that comes and goes costs nothing. */
const WAKE_PAUSE_MS = 3_000;
/** The answer to a probe comes within this time: the server asks no other process for it. */
const PROBE_PATIENCE_MS = 5_000;
const TOKEN_EXPIRED = 3005;
const INVALID_TOKEN = 3500;
const STALE = 3502;
/** Its user ended it, or the tenant did: its token is good for nothing any more. */
export const SESSION_ENDED = 3505;

/** What follows the end of a connection: connect again, connect with a new token, or never again. */
export type Ending = "reconnect" | "renew" | "stop";

/** Returns what a close code of the server asks for. A code of the network, such as 1006, is not the server's. */
export function ending(code: number): Ending {
    // A token of a former key of the realm is refused as invalid, and a new one is not; that is tried once.
    if (code === TOKEN_EXPIRED || code === INVALID_TOKEN) return "renew";
    // The server did not wait longer for `connect`: the network may be slow. It is a failed attempt, with a longer wait.
    if (code === STALE) return "reconnect";
    return code >= 3500 && code < 4000 ? "stop" : "reconnect";
}

/** Waits between attempts: random between zero and a bound that doubles, so that clients do not come back in step. */
export class BackOff {
    #attempt = 0;

    /** Returns the wait in ms before the next attempt; `random` is from 0 to 1, `livedMs` the life of the last connection. */
    next(random: number, livedMs = 0): number {
        if (livedMs >= GOOD_AFTER_MS) this.#attempt = 0;
        this.#attempt += 1;
        return random * Math.min(LAST_WAIT_MS, FIRST_WAIT_MS * 2 ** Math.min(this.#attempt, 16));
    }

    /** Makes the next wait short again: how attempts ended on one network says nothing of another. */
    reset(): void {
        this.#attempt = 0;
    }
}

/** When to heed a program that says that the network or the machine may be back. */
export class Wakes {
    #dueAt = Infinity;
    #heldUntil = -Infinity;

    /** Notes that the program said so. One that comes too soon is heeded later, and not lost: the clock may have stood still since the last one. */
    note(now: number): void {
        this.#dueAt = Math.min(this.#dueAt, Math.max(now, this.#heldUntil));
    }

    /** Returns whether one is to be heeded now, and says so once for all that were noted. */
    isDue(now: number): boolean {
        if (now < this.#dueAt) return false;
        this.#dueAt = Infinity;
        this.#heldUntil = now + WAKE_PAUSE_MS;
        return true;
    }

    /** Notes that a frame came: there is a connection, and nothing to look for. */
    received(): void {
        this.#dueAt = Infinity;
    }
}

/** The times of one connection, in ms. */
export class Pulse {
    readonly #silenceMs: number;
    #receivedAt: number;
    /** A probe is to be answered until then. */
    #answerBy = Infinity;
    #refreshAt: number;

    constructor(connected: Connected, now: number) {
        this.#silenceMs = (connected.ping_seconds + connected.pong_seconds) * 2_000;
        this.#receivedAt = now;
        this.#refreshAt = refreshAt(connected.token_expires_in_seconds, now);
    }

    /** Notes that a frame came. */
    received(now: number): void {
        this.#receivedAt = now;
        this.#answerBy = Infinity;
    }

    /** Notes that the server was asked something, to see whether it is still there. A second probe gives it no more time. */
    probed(now: number): void {
        this.#answerBy = Math.min(this.#answerBy, now + PROBE_PATIENCE_MS);
    }

    /**
     * Returns whether the server was silent for two of its heartbeats, or after a probe. A machine that slept may find the former at once, or
     * only that much later: some clocks stand still meanwhile.
     */
    isSilent(now: number): boolean {
        return now >= this.#answerBy || now - this.#receivedAt > this.#silenceMs;
    }

    /** Returns whether the token is to be replaced; it says so once for each life of a token. */
    isRefreshDue(now: number): boolean {
        if (now < this.#refreshAt) return false;
        this.#refreshAt = Infinity;
        return true;
    }

    /** Notes the life of the new token. */
    renewed(expiresInSeconds: number, now: number): void {
        this.#refreshAt = refreshAt(expiresInSeconds, now);
    }

    /** Notes that the renewal failed for a passing reason. */
    renewLater(now: number): void {
        this.#refreshAt = now + 5_000;
    }
}

/** A fifth of the token's time is left, or 30 s, whichever is more; never before half of a short one has passed. */
function refreshAt(expiresInSeconds: number, now: number): number {
    const left = Math.max(0, expiresInSeconds) * 1_000;
    return now + Math.max(left / 2, left - Math.max(left / 5, 30_000));
}

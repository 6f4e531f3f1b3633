// Why the server closed a connection, in words.
import { socket } from "@posthouse/client";
import type { Key } from "../text/texts";

type CloseCode = keyof typeof socket.CLOSE_CODES;

/** Returns the key of what a close code means to the user; nothing for one of the network, or of a later release. */
export function closingKey(code: number | undefined): Key | undefined {
    if (code === undefined || !(code in socket.CLOSE_CODES)) return undefined;
    return `close.${code as CloseCode}`;
}

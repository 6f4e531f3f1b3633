// The encodings of frames. What a socket carries is known here; the rest of the library has frames.
import { decode, encode } from "./cbor.js";
import { ID_FIELDS, NAMES, SUBPROTOCOLS } from "./generated/socket.js";

/** How the frames of a session are written. */
export type Encoding = keyof typeof SUBPROTOCOLS;

/** Frames as a socket carries them. */
export type Codec = {
    encode(frame: object): string | Uint8Array<ArrayBuffer>;
    /** Reads what came; throws what is of another protocol. A binary message is an `ArrayBuffer`. */
    decode(data: unknown): object;
};

const DICTIONARY = { names: NAMES, ids: new Set<string>(ID_FIELDS) };

const CODECS: Record<Encoding, Codec> = {
    json: {
        encode: (frame) => JSON.stringify(frame),
        decode(data) {
            if (typeof data !== "string") throw new TypeError("no text");
            return object(JSON.parse(data));
        },
    },
    cbor: {
        encode: (frame) => encode(frame, DICTIONARY),
        decode(data) {
            if (!(data instanceof ArrayBuffer)) throw new TypeError("no bytes");
            return object(decode(new Uint8Array(data), NAMES));
        },
    },
};

/** Returns the subprotocols to offer, first the one of this encoding. A server that knows JSON alone chooses that. */
export function offered(encoding: Encoding): string[] {
    return [...new Set([SUBPROTOCOLS[encoding], SUBPROTOCOLS.json])];
}

/** Returns the codec of the subprotocol that the server chose. */
export function codec(subprotocol: string): Codec {
    return subprotocol === SUBPROTOCOLS.cbor ? CODECS.cbor : CODECS.json;
}

function object(value: unknown): object {
    if (value === null || typeof value !== "object" || Array.isArray(value)) throw new TypeError("no frame");
    return value;
}

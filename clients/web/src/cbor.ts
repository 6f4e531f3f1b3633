// CBOR (RFC 8949) as far as frames need it: what JSON has, and ids as byte strings of 16. Keys of maps are names or their numbers.
//
// Written by hand because this library has no dependencies: a general one would be larger than all of this, and would know neither ids nor
// names.

const UNSIGNED = 0;
const NEGATIVE = 1;
const BYTES = 2;
const TEXT = 3;
const ARRAY = 4;
const MAP = 5;
const SIMPLE = 7;

const FALSE = 20;
const TRUE = 21;
const NULL = 22;

/** What the five low bits of an item's first byte say: the number is in so many bytes behind it. */
const IN_1_BYTE = 24;
const IN_2_BYTES = 25;
const IN_4_BYTES = 26;
const IN_8_BYTES = 27;

const ID_BYTES = 16;
const ID = /^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$/i;
/** As deep as the server reads. */
const MAX_DEPTH = 127;

/** The names that have numbers, by number, and the fields that are ids or lists of them. */
export type Dictionary = { names: readonly string[]; ids: ReadonlySet<string> };

/** Returns a value of JSON as CBOR. A field that is undefined is left out, as in JSON. */
export function encode(value: unknown, dictionary: Dictionary): Uint8Array<ArrayBuffer> {
    const writer = new Writer(dictionary);
    writer.value(value);
    return writer.bytes();
}

/** Reads a value of JSON, and nothing behind it; throws what is none. */
export function decode(bytes: Uint8Array, names: readonly string[]): unknown {
    return new Reader(bytes, names).whole();
}

class Writer {
    readonly #ids: ReadonlySet<string>;
    readonly #numbers: ReadonlyMap<string, number>;
    #bytes = new Uint8Array(256);
    #at = 0;

    constructor({ names, ids }: Dictionary) {
        this.#ids = ids;
        this.#numbers = numbersOf(names);
    }

    bytes(): Uint8Array<ArrayBuffer> {
        return this.#bytes.slice(0, this.#at);
    }

    /** Writes a value; `field` is the name of the field that it belongs to. */
    value(value: unknown, field?: string): void {
        if (value === null) this.#simple(NULL);
        else if (typeof value === "boolean") this.#simple(value ? TRUE : FALSE);
        else if (typeof value === "number") this.#number(value);
        else if (typeof value === "string") {
            if (field !== undefined && this.#ids.has(field) && ID.test(value)) this.#id(value);
            else this.#text(value);
        } else if (Array.isArray(value)) {
            this.#head(ARRAY, value.length);
            for (const part of value) this.value(part, field);
        } else if (typeof value === "object") {
            const fields = Object.entries(value).filter(([, part]) => part !== undefined);
            this.#head(MAP, fields.length);
            for (const [name, part] of fields) {
                const number = this.#numbers.get(name);
                if (number === undefined) this.#text(name);
                else this.#head(UNSIGNED, number);
                this.value(part, name);
            }
        } else throw new TypeError(`a frame has no ${typeof value}`);
    }

    #number(value: number): void {
        if (!Number.isSafeInteger(value) || Object.is(value, -0)) {
            this.#simple(IN_8_BYTES);
            const at = this.#grow(8);
            new DataView(this.#bytes.buffer).setFloat64(at, value);
        } else if (value >= 0) this.#head(UNSIGNED, value);
        else this.#head(NEGATIVE, -1 - value);
    }

    #text(text: string): void {
        // Half of a character is nothing in UTF-8. The server refuses the frame, as it refuses such an escape in JSON.
        const bytes = /\p{Surrogate}/u.test(text) ? Uint8Array.of(0xff) : new TextEncoder().encode(text);
        this.#string(TEXT, bytes);
    }

    #id(id: string): void {
        const digits = id.replaceAll("-", "");
        this.#string(
            BYTES,
            Uint8Array.from({ length: ID_BYTES }, (_, at) =>
                Number.parseInt(digits.slice(2 * at, 2 * at + 2), 16),
            ),
        );
    }

    #string(major: number, bytes: Uint8Array): void {
        this.#head(major, bytes.length);
        const at = this.#grow(bytes.length);
        this.#bytes.set(bytes, at);
    }

    #simple(value: number): void {
        const at = this.#grow(1);
        this.#bytes[at] = (SIMPLE << 5) | value;
    }

    /** Writes the beginning of an item, in as few bytes as it takes. */
    #head(major: number, argument: number): void {
        const [info, count] =
            argument < IN_1_BYTE
                ? [argument, 0]
                : argument < 2 ** 8
                  ? [IN_1_BYTE, 1]
                  : argument < 2 ** 16
                    ? [IN_2_BYTES, 2]
                    : argument < 2 ** 32
                      ? [IN_4_BYTES, 4]
                      : [IN_8_BYTES, 8];
        const at = this.#grow(1 + count);
        this.#bytes[at] = (major << 5) | info;
        let rest = argument;
        for (let place = at + count; place > at; place--) {
            this.#bytes[place] = rest % 256;
            rest = Math.floor(rest / 256);
        }
    }

    /** Makes room for so many bytes, and returns where it begins. */
    #grow(count: number): number {
        const at = this.#at;
        this.#at += count;
        if (this.#at > this.#bytes.length) {
            const larger = new Uint8Array(Math.max(this.#at, 2 * this.#bytes.length));
            larger.set(this.#bytes);
            this.#bytes = larger;
        }
        return at;
    }
}

const NUMBERS = new WeakMap<readonly string[], ReadonlyMap<string, number>>();

function numbersOf(names: readonly string[]): ReadonlyMap<string, number> {
    const numbers = NUMBERS.get(names) ?? new Map(names.map((name, number) => [name, number]));
    NUMBERS.set(names, numbers);
    return numbers;
}

class Reader {
    readonly #bytes: Uint8Array;
    readonly #view: DataView;
    readonly #names: readonly string[];
    readonly #text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
    #at = 0;
    #depth = 0;

    constructor(bytes: Uint8Array, names: readonly string[]) {
        this.#bytes = bytes;
        this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
        this.#names = names;
    }

    whole(): unknown {
        const value = this.#value();
        if (this.#at < this.#bytes.length) throw new TypeError("something follows the value");
        return value;
    }

    #value(): unknown {
        const [major, info, argument] = this.#head();
        switch (major) {
            case UNSIGNED:
                return argument;
            case NEGATIVE:
                return -1 - argument;
            case BYTES:
                return this.#id(argument);
            case TEXT:
                return this.#text.decode(this.#take(argument));
            case ARRAY:
                return this.#deeper(argument, () => this.#value());
            case MAP:
                // Not by assignment: a name is a name, also `__proto__`.
                return Object.fromEntries(this.#deeper(argument, () => [this.#key(), this.#value()] as const));
            case SIMPLE:
                return this.#simple(info, argument);
            default:
                throw new TypeError("a tag");
        }
    }

    #key(): string {
        const [major, , argument] = this.#head();
        if (major === TEXT) return this.#text.decode(this.#take(argument));
        // A number of a later version is a field that is not known here.
        if (major === UNSIGNED) return this.#names[argument] ?? `#${argument}`;
        throw new TypeError("a key that is neither a name nor its number");
    }

    #id(length: number): string {
        if (length !== ID_BYTES) throw new TypeError("bytes that are no id");
        const digits = Array.from(this.#take(length), (byte) => byte.toString(16).padStart(2, "0")).join("");
        return digits.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
    }

    #deeper<Part>(length: number, read: () => Part): Part[] {
        if (length > this.#bytes.length - this.#at) throw new RangeError("the value ends early");
        if (this.#depth === MAX_DEPTH) throw new RangeError("the value is too deep");
        this.#depth++;
        const parts = Array.from({ length }, read);
        this.#depth--;
        return parts;
    }

    /** Reads the beginning of an item: its major type, its five low bits, and its number. */
    #head(): [number, number, number] {
        const initial = this.#take(1)[0] ?? 0;
        const [major, info] = [initial >> 5, initial & 0x1f];
        if (info < IN_1_BYTE) return [major, info, info];
        const at = this.#at;
        switch (info) {
            case IN_1_BYTE:
                this.#take(1);
                return [major, info, this.#view.getUint8(at)];
            case IN_2_BYTES:
                this.#take(2);
                return [major, info, this.#view.getUint16(at)];
            case IN_4_BYTES:
                this.#take(4);
                return [major, info, this.#view.getUint32(at)];
            case IN_8_BYTES:
                this.#take(8);
                return [major, info, Number(this.#view.getBigUint64(at))];
            default:
                throw new TypeError("a length that is not known in advance, or a reserved one");
        }
    }

    #simple(info: number, argument: number): unknown {
        switch (info) {
            case FALSE:
                return false;
            case TRUE:
                return true;
            case NULL:
                return null;
            case IN_2_BYTES:
                return half(argument);
            case IN_4_BYTES:
                return this.#view.getFloat32(this.#at - 4);
            case IN_8_BYTES:
                return this.#view.getFloat64(this.#at - 8);
            default:
                throw new TypeError("a simple value that JSON does not have");
        }
    }

    #take(count: number): Uint8Array {
        if (count > this.#bytes.length - this.#at) throw new RangeError("the value ends early");
        this.#at += count;
        return this.#bytes.subarray(this.#at - count, this.#at);
    }
}

/** Reads a float of 16 bits: a sign, 5 bits of exponent, 10 of fraction. */
function half(bits: number): number {
    const sign = bits >> 15 ? -1 : 1;
    const exponent = (bits >> 10) & 0x1f;
    const fraction = bits & 0x3ff;
    if (exponent === 0) return sign * fraction * 2 ** -24;
    if (exponent === 31) return fraction === 0 ? sign * Infinity : NaN;
    return sign * (1024 + fraction) * 2 ** (exponent - 25);
}

// Writes JSON as YAML, as kubectl does: what users read and edit. Nothing here reads YAML: the API server does, of what they wrote.

/** What YAML reads as something else than the text that it is: a number, a truth, nothing, a time, or a mark of its own. */
const OTHER = /^(|~|null|true|false|yes|no|on|off|y|n|[-+.]?[0-9.].*|[-+]?\.(inf|nan)|0[xob].*)$/i;
const UNPRINTED = /[\u007f-\u009f\u2028\u2029\ufeff]/g;
const PLAIN = /^[A-Za-z0-9_./][A-Za-z0-9_./ @=+:-]*$/;

function scalar(value: string | number | boolean | null): string {
    if (typeof value !== "string") return String(value);
    const isPlain = PLAIN.test(value) && !OTHER.test(value) && !/(: | #|:$| $)/.test(value);
    if (isPlain) return value;
    // JSON is YAML, but for what is a line break there, or is refused.
    return JSON.stringify(value).replace(
        UNPRINTED,
        (one) => `\\u${one.charCodeAt(0).toString(16).padStart(4, "0")}`,
    );
}

function lines(value: unknown, indent: string, into: string[]): void {
    if (Array.isArray(value)) {
        for (const item of value as unknown[]) {
            if (!isNested(item)) {
                into.push(`${indent}- ${inline(item)}`);
                continue;
            }
            // The first line of what is in it stands beside its dash.
            const nested: string[] = [];
            lines(item, `${indent}  `, nested);
            into.push(`${indent}- ${nested[0]!.slice(indent.length + 2)}`, ...nested.slice(1));
        }
        return;
    }
    for (const [key, item] of Object.entries(value as Record<string, unknown>)) {
        if (item === undefined) continue;
        if (isNested(item)) {
            into.push(`${indent}${scalar(key)}:`);
            lines(item, Array.isArray(item) ? indent : `${indent}  `, into);
        } else {
            into.push(`${indent}${scalar(key)}: ${inline(item)}`);
        }
    }
}

function isNested(value: unknown): boolean {
    return typeof value === "object" && value !== null && Object.keys(value).length > 0;
}

function inline(value: unknown): string {
    if (Array.isArray(value)) return "[]";
    if (typeof value === "object" && value !== null) return "{}";
    return scalar(value as string | number | boolean | null);
}

/** Returns an object as YAML. */
export function toYaml(value: Record<string, unknown>): string {
    const all: string[] = [];
    lines(value, "", all);
    return `${all.join("\n")}\n`;
}

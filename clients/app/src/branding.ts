// The tenant's colour, made so that text in it and on it is readable in both themes.

/** A colour for links, buttons and lines, and one for text on it. */
export type Accent = { accent: string; onAccent: string };

/** By which an accent is chosen: of the grounds in `base.css`, the darkest of the light theme and the lightest of the dark one. */
const GROUNDS = { light: "#e2e8ee", dark: "#46391a" } as const;
/** WCAG 2.2, 1.4.3. What is rounded to a colour of 8 bits stays above 4.5. */
const LEAST = 4.6;
const BLACK: Rgb = [0, 0, 0];
const WHITE: Rgb = [255, 255, 255];

type Rgb = readonly [red: number, green: number, blue: number];

/** Returns the accents for a colour `#rrggbb`, and nothing for another text. */
export function accents(color: string | undefined): { light: Accent; dark: Accent } | undefined {
    const parts = /^#([0-9a-f]{2})([0-9a-f]{2})([0-9a-f]{2})$/i.exec(color ?? "");
    if (!parts) return undefined;
    const [, red, green, blue] = parts.map((part) => parseInt(part, 16));
    const own: Rgb = [red!, green!, blue!];
    return { light: accent(own, BLACK, GROUNDS.light), dark: accent(own, WHITE, GROUNDS.dark) };
}

/** Shows the page in a colour of the tenant, or in its own where there is none. */
export function paint(color: string | undefined, style: CSSStyleDeclaration): void {
    const found = accents(color);
    for (const [name, part] of [
        ["--accent", "accent"],
        ["--on-accent", "onAccent"],
    ] as const) {
        if (found) style.setProperty(name, `light-dark(${found.light[part]}, ${found.dark[part]})`);
        else style.removeProperty(name);
    }
}

/** The colour itself where it is seen on the ground, else the nearest mixture with `toward` that is. */
function accent(own: Rgb, toward: Rgb, ground: string): Accent {
    const on = luminance(parse(ground));
    let found = own;
    for (let step = 0; contrast(luminance(found), on) < LEAST && step <= 100; step++)
        found = mixed(own, toward, step / 100);
    const light = luminance(found);
    return {
        accent: text(found),
        onAccent: contrast(light, 1) > contrast(light, 0) ? text(WHITE) : text(BLACK),
    };
}

function mixed(one: Rgb, other: Rgb, part: number): Rgb {
    const [red, green, blue] = one.map((value, at) => Math.round(value + (other[at]! - value) * part));
    return [red!, green!, blue!];
}

function parse(color: string): Rgb {
    const [red, green, blue] = [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16));
    return [red!, green!, blue!];
}

function text(color: Rgb): string {
    return `#${color.map((part) => part.toString(16).padStart(2, "0")).join("")}`;
}

/** The relative luminance of WCAG 2.2. */
function luminance(color: Rgb): number {
    const [red, green, blue] = color.map((part) => {
        const value = part / 255;
        return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * red! + 0.7152 * green! + 0.0722 * blue!;
}

/** The contrast of WCAG 2.2 between two luminances. */
function contrast(one: number, other: number): number {
    return (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
}

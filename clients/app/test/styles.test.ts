// The colours of base.css, by the formula of WCAG 2.2: text has a contrast of 4.5 on its ground, and a line of a control one of 3.
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { accents } from "../src/branding";

const CSS = readFileSync("src/styles/base.css", "utf8");

const COLOURS = new Map(
    [...CSS.matchAll(/--([\w-]+): light-dark\((#\w{6}), (#\w{6})\)/g)].map(([, name, light, dark]) => [
        name!,
        [light!, dark!] as const,
    ]),
);

function luminance(colour: string): number {
    const [red, green, blue] = [1, 3, 5].map((at) => {
        const part = parseInt(colour.slice(at, at + 2), 16) / 255;
        return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * red! + 0.7152 * green! + 0.0722 * blue!;
}

function contrast(one: string, other: string): number {
    const [low, high] = [luminance(one), luminance(other)].sort((a, b) => a - b);
    return (high! + 0.05) / (low! + 0.05);
}

const GROUNDS = ["ground", "ground-2", "ground-3", "own", "called"];

test.each([
    ["text", [...GROUNDS, "mark"], 4.5],
    ["text-2", ["ground", "ground-2", "ground-3"], 4.5],
    ["accent", GROUNDS, 4.5],
    ["danger", ["ground", "ground-2", "ground-3", "own"], 4.5],
    ["on-accent", ["accent"], 4.5],
    ["ground", ["text-2"], 4.5],
    ["line", ["ground"], 3],
    ["focus", ["ground", "ground-2", "ground-3"], 3],
] as const)("%s is seen on %s", (colour, grounds, least) => {
    for (const ground of grounds) {
        for (const theme of [0, 1] as const) {
            const [one, other] = [COLOURS.get(colour)?.[theme], COLOURS.get(ground)?.[theme]];
            expect(
                contrast(one!, other!),
                `${colour} on ${ground}, ${theme === 0 ? "light" : "dark"}`,
            ).toBeGreaterThanOrEqual(least);
        }
    }
});

test("a tenant's colour is seen on each ground, and text on it", () => {
    const levels = ["00", "1f", "33", "66", "7b", "99", "cc", "ff"];
    const colors = levels.flatMap((red) =>
        levels.flatMap((green) => levels.map((blue) => `#${red}${green}${blue}`)),
    );
    for (const color of colors) {
        const found = accents(color)!;
        for (const [theme, { accent, onAccent }] of [found.light, found.dark].entries()) {
            for (const ground of GROUNDS)
                expect(
                    contrast(accent, COLOURS.get(ground)![theme]!),
                    `${color} as ${accent} on ${ground}`,
                ).toBeGreaterThanOrEqual(4.5);
            expect(contrast(accent, onAccent), `${onAccent} on ${accent}`).toBeGreaterThanOrEqual(4.5);
        }
    }
});

test("the letters of an avatar are seen on each of its colours", () => {
    const hues = [...CSS.matchAll(/--hue: (\d+);/g)].map(([, hue]) => Number(hue));
    expect(hues).toHaveLength(8);
    const [, saturation, lightness] = /hsl\(var\(--hue\) (\d+)% (\d+)%\)/.exec(CSS)!.map(Number);
    for (const hue of hues)
        expect(
            contrast("#ffffff", hsl(hue, saturation! / 100, lightness! / 100)),
            String(hue),
        ).toBeGreaterThanOrEqual(4.5);
});

function hsl(hue: number, saturation: number, lightness: number): string {
    const amplitude = saturation * Math.min(lightness, 1 - lightness);
    const part = (offset: number) => {
        const at = (offset + hue / 30) % 12;
        const value = lightness - amplitude * Math.max(-1, Math.min(at - 3, 9 - at, 1));
        return Math.round(value * 255)
            .toString(16)
            .padStart(2, "0");
    };
    return `#${part(0)}${part(8)}${part(4)}`;
}

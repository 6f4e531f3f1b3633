// The icons of an installed messenger: each file is there, has the size that the manifest says, and is of the drawing.
import { readFileSync } from "node:fs";
import { inflateSync } from "node:zlib";
import { expect, test } from "vitest";
// @ts-expect-error a script without types
import { draw, ICONS } from "../scripts/icons.mjs";

type Manifest = { icons: Array<{ src: string; sizes: string; type: string; purpose?: string }> };

const MANIFEST = JSON.parse(readFileSync("public/manifest.webmanifest", "utf8")) as Manifest;
/** Pixels of a side of what is compared. */
const COARSE = 12;

/** Reads a picture of four bytes a pixel whose lines have no filter. */
function pixels(file: string): { size: number; data: Buffer } {
    const bytes = readFileSync(file);
    const size = bytes.readUInt32BE(16);
    const begin = bytes.indexOf("IDAT");
    const lines = inflateSync(bytes.subarray(begin + 4, begin + 4 + bytes.readUInt32BE(begin - 4)));
    const length = size * 4;
    const data = Buffer.concat(
        Array.from({ length: size }, (_, y) => lines.subarray(y * (length + 1) + 1, (y + 1) * (length + 1))),
    );
    return { size, data };
}

/** The mean of a part of a square, of what is seen on white. */
function mean({ size, data }: { size: number; data: Uint8Array }, column: number, row: number): number {
    const step = size / COARSE;
    let sum = 0;
    let count = 0;
    for (let y = Math.floor(row * step); y < (row + 1) * step; y += 1) {
        for (let x = Math.floor(column * step); x < (column + 1) * step; x += 1) {
            const at = (y * size + x) * 4;
            sum += 255 - ((255 - data[at]!) * data[at + 3]!) / 255;
            count += 1;
        }
    }
    return sum / count;
}

test.each(Object.entries(ICONS as Record<string, { size: number; isMaskable?: boolean }>))(
    "%s is of the drawing",
    (name, icon) => {
        const svg = readFileSync("public/icon.svg", "utf8");
        const found = pixels(`public/${name}`);
        expect(found.size).toBe(icon.size);
        const size = COARSE * 2;
        const expected = { size, data: draw(svg, { ...icon, size }) as Uint8Array };
        for (let part = 0; part < COARSE ** 2; part += 1) {
            const at = [part % COARSE, Math.floor(part / COARSE)] as const;
            // Few points stand for many.
            expect(Math.abs(mean(found, ...at) - mean(expected, ...at)), String(at)).toBeLessThan(24);
        }
    },
);

test("the manifest has what a browser asks of one that is installed", () => {
    const drawn = MANIFEST.icons.filter(({ type }) => type === "image/png");
    expect(drawn.map(({ sizes }) => sizes)).toEqual(expect.arrayContaining(["192x192", "512x512"]));
    expect(drawn.filter(({ purpose }) => purpose === "maskable")).toHaveLength(1);
    for (const { src, sizes } of drawn) {
        const { size } = pixels(`public/${src.replace("/app/", "")}`);
        expect(`${size}x${size}`, src).toBe(sizes);
    }
});

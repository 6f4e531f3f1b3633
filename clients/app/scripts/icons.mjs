// Draws the icons that systems show of an installed messenger, from `public/icon.svg`: `npm run icons` after a change of it.
//
// It knows what that drawing has: rectangles with round corners, and paths of lines and arcs that are filled or stroked. No library draws here, since
// those that read any drawing bring a binary for each system.
import { readFileSync, writeFileSync } from "node:fs";
import { crc32, deflateSync } from "node:zlib";

const SOURCE = new URL("../public/icon.svg", import.meta.url);
/** Points of a pixel, in each direction. */
const SAMPLES = 4;
/** Of a quarter of a circle. */
const ARC_STEPS = 16;
/** Of a maskable icon, systems may cut off all that is beyond 40 % around its middle. */
const SAFE = 0.8;

/** By file. */
export const ICONS = {
    "icon-192.png": { size: 192 },
    "icon-512.png": { size: 512 },
    "icon-maskable-512.png": { size: 512, isMaskable: true },
    "apple-touch-icon.png": { size: 180, isMaskable: true },
};

/** Returns the pixels of an icon, four bytes each. */
export function draw(svg, { size, isMaskable = false }) {
    const { box, shapes } = read(svg);
    const pixels = new Uint8Array(size * size * 4);
    const ground = isMaskable ? shapes[0].colour : undefined;
    // The ground fills the whole of a maskable one, and what is on it moves inwards.
    const scale = (isMaskable ? 1 / SAFE : 1) * (box / size);
    const shown = isMaskable ? shapes.slice(1) : shapes;
    for (let y = 0; y < size; y += 1) {
        for (let x = 0; x < size; x += 1) {
            const sum = [0, 0, 0, 0];
            for (let sample = 0; sample < SAMPLES ** 2; sample += 1) {
                const at = (pixel, part) => (pixel + (part + 0.5) / SAMPLES - size / 2) * scale + box / 2;
                const point = [at(x, sample % SAMPLES), at(y, Math.floor(sample / SAMPLES))];
                const colour = shown.findLast((shape) => covers(shape, point))?.colour ?? ground;
                if (!colour) continue;
                colour.forEach((part, index) => (sum[index] += part));
                sum[3] += 1;
            }
            const offset = (y * size + x) * 4;
            for (const index of [0, 1, 2])
                pixels[offset + index] = sum[3] ? Math.round(sum[index] / sum[3]) : 0;
            pixels[offset + 3] = Math.round((sum[3] / SAMPLES ** 2) * 255);
        }
    }
    return pixels;
}

/** Returns a picture as PNG. */
export function png(pixels, size) {
    const chunk = (type, data) => {
        const named = Buffer.concat([Buffer.from(type, "latin1"), data]);
        const frame = Buffer.alloc(8);
        frame.writeUInt32BE(data.length, 0);
        frame.writeUInt32BE(crc32(named), 4);
        return Buffer.concat([frame.subarray(0, 4), named, frame.subarray(4)]);
    };
    const head = Buffer.alloc(13);
    head.writeUInt32BE(size, 0);
    head.writeUInt32BE(size, 4);
    // Eight bits each of red, green, blue and alpha.
    head.set([8, 6], 8);
    const lines = Buffer.alloc((size * 4 + 1) * size);
    for (let y = 0; y < size; y += 1)
        lines.set(pixels.subarray(y * size * 4, (y + 1) * size * 4), y * (size * 4 + 1) + 1);
    const signature = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);
    return Buffer.concat([
        signature,
        chunk("IHDR", head),
        chunk("IDAT", deflateSync(lines, { level: 9 })),
        chunk("IEND", Buffer.alloc(0)),
    ]);
}

function read(svg) {
    const box = Number(/viewBox="0 0 (\d+) \1"/.exec(svg)?.[1]);
    const shapes = [...svg.matchAll(/<(rect|path) ([^>]*)\/>/g)].map(([, kind, text]) => {
        const given = Object.fromEntries(
            [...text.matchAll(/([\w-]+)="([^"]*)"/g)].map(([, name, value]) => [name, value]),
        );
        const lines = kind === "rect" ? path(rectangle(given)) : path(given.d);
        const isStroke = given.stroke !== undefined;
        const colour = colourOf(isStroke ? given.stroke : given.fill);
        return { lines, colour, width: isStroke ? Number(given["stroke-width"]) : 0 };
    });
    if (!box || shapes.length === 0)
        throw new Error("the drawing has a square viewBox, and rectangles or paths");
    return { box, shapes };
}

function colourOf(text) {
    const digits = /^#(\w{3}|\w{6})$/.exec(text)?.[1];
    if (!digits) throw new Error(`a colour is written as #rgb or #rrggbb, and not ${text}`);
    const long = digits.length === 3 ? [...digits].map((digit) => digit + digit).join("") : digits;
    return [0, 2, 4].map((at) => parseInt(long.slice(at, at + 2), 16));
}

function rectangle({ x = 0, y = 0, width, height, rx = 0 }) {
    const [right, down] = [width - 2 * rx, height - 2 * rx];
    const arc = (dx, dy) => `a${rx} ${rx} 0 0 1 ${dx * rx} ${dy * rx}`;
    return `M${+x + +rx} ${y}h${right}${arc(1, 1)}v${down}${arc(-1, 1)}h${-right}${arc(-1, -1)}v${-down}${arc(1, -1)}z`;
}

/** Returns the lines of a path, each of points. */
function path(text) {
    const lines = [];
    let [x, y] = [0, 0];
    for (const [, command, rest] of text.matchAll(/([a-zA-Z])([^a-zA-Z]*)/g)) {
        const numbers = (rest.match(/-?\d*\.?\d+/g) ?? []).map(Number);
        const isRelative = command === command.toLowerCase();
        const [dx, dy] = isRelative ? [x, y] : [0, 0];
        const name = command.toUpperCase();
        if (name === "M") lines.push([[numbers[0] + dx, numbers[1] + dy]]);
        else if (name === "H") lines.at(-1).push([numbers[0] + dx, y]);
        else if (name === "V") lines.at(-1).push([x, numbers[0] + dy]);
        else if (name === "L" || name === "A") {
            const size = name === "L" ? 2 : 7;
            for (let at = 0; at < numbers.length; at += size) {
                const [toX, toY] = numbers.slice(at + size - 2, at + size);
                const [fromX, fromY] = lines.at(-1).at(-1);
                const to = isRelative ? [toX + fromX, toY + fromY] : [toX, toY];
                if (name === "L") lines.at(-1).push(to);
                else lines.at(-1).push(...arc([fromX, fromY], to, numbers[at], numbers[at + 4]));
            }
        } else if (name === "Z") lines.at(-1).push(lines.at(-1)[0]);
        else throw new Error(`the drawing has the command ${command}, which is not known here`);
        [x, y] = lines.at(-1).at(-1);
    }
    return lines;
}

/** Returns the points of an arc of a circle that is at most a half of it. */
function arc([x1, y1], [x2, y2], radius, sweep) {
    const [dx, dy] = [x2 - x1, y2 - y1];
    const half = Math.hypot(dx, dy) / 2;
    const height = Math.sqrt(Math.max(0, radius ** 2 - half ** 2)) * (sweep ? 1 : -1);
    const [cx, cy] = [(x1 + x2) / 2 - (dy / (2 * half)) * height, (y1 + y2) / 2 + (dx / (2 * half)) * height];
    const from = Math.atan2(y1 - cy, x1 - cx);
    let turn = Math.atan2(y2 - cy, x2 - cx) - from;
    if (sweep && turn < 0) turn += 2 * Math.PI;
    if (!sweep && turn > 0) turn -= 2 * Math.PI;
    return Array.from({ length: ARC_STEPS }, (_, step) => {
        const angle = from + (turn * (step + 1)) / ARC_STEPS;
        return [cx + radius * Math.cos(angle), cy + radius * Math.sin(angle)];
    });
}

function covers({ lines, width }, [x, y]) {
    if (width > 0) return lines.some((line) => isNear(line, x, y, width / 2));
    let winding = 0;
    for (const line of lines) {
        for (let at = 1; at < line.length; at += 1) {
            const [[x1, y1], [x2, y2]] = [line[at - 1], line[at]];
            if (y1 <= y === y2 <= y) continue;
            if (x1 + ((y - y1) / (y2 - y1)) * (x2 - x1) > x) winding += y2 > y1 ? 1 : -1;
        }
    }
    return winding !== 0;
}

/** Whether a point is on a line of this half of a width, with round ends and corners. */
function isNear(line, x, y, reach) {
    for (let at = 1; at < line.length; at += 1) {
        const [[x1, y1], [x2, y2]] = [line[at - 1], line[at]];
        const [dx, dy] = [x2 - x1, y2 - y1];
        const along = Math.min(1, Math.max(0, ((x - x1) * dx + (y - y1) * dy) / (dx ** 2 + dy ** 2)));
        if (Math.hypot(x - x1 - along * dx, y - y1 - along * dy) <= reach) return true;
    }
    return false;
}

if (process.argv[1] && import.meta.url.endsWith(process.argv[1].replace(/^.*(?=\/scripts\/)/, ""))) {
    const svg = readFileSync(SOURCE, "utf8");
    for (const [name, icon] of Object.entries(ICONS)) {
        writeFileSync(new URL(`../public/${name}`, import.meta.url), png(draw(svg, icon), icon.size));
    }
}

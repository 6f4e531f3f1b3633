// Figures of stories: printed, and kept beside the pictures as JSON and as a table.
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { CDPSession } from "@playwright/test";
import { OUT } from "./stand";

export type Figures = Record<string, string | number>;

/** Keeps and prints the rows of a table, which all have the same columns. */
export async function report(name: string, title: string, rows: readonly Figures[]): Promise<void> {
    const columns = Object.keys(rows[0] ?? {});
    const line = (cells: readonly (string | number)[]) => `| ${cells.join(" | ")} |`;
    const table = [
        line(columns),
        line(columns.map(() => "---")),
        ...rows.map((row) => line(columns.map((column) => row[column] ?? ""))),
    ].join("\n");
    const folder = join(OUT, "figures");
    await mkdir(folder, { recursive: true });
    await writeFile(join(folder, `${name}.json`), `${JSON.stringify({ title, rows }, null, 2)}\n`);
    await writeFile(join(folder, `${name}.md`), `${title}\n\n${table}\n`);
    console.log(`\n${title}\n${table}\n`);
}

/** Returns what `share` of numbers are at most, from 0 to 1. */
export function percentile(numbers: readonly number[], share: number): number {
    const sorted = [...numbers].sort((one, other) => one - other);
    return sorted[Math.min(sorted.length - 1, Math.ceil(share * sorted.length) - 1)] ?? Number.NaN;
}

export function rounded(number: number, digits = 0): number {
    return Number(number.toFixed(digits));
}

/** What a page holds after its garbage was collected. */
export type Held = { heapMb: number; elements: number; listeners: number };

/** Returns what the page of a session holds. The session has `Performance` and `HeapProfiler` on. */
export async function held(session: CDPSession): Promise<Held> {
    // What a first collection finalizes, a second one takes.
    for (let times = 0; times < 2; times += 1) await session.send("HeapProfiler.collectGarbage");
    const { metrics } = await session.send("Performance.getMetrics");
    const of = (name: string) => metrics.find((metric) => metric.name === name)!.value;
    return {
        heapMb: rounded(of("JSHeapUsedSize") / 1024 / 1024, 1),
        elements: of("Nodes"),
        listeners: of("JSEventListeners"),
    };
}

// The difference of two texts by lines.

export type Line = { is: "same" | "removed" | "added"; text: string };

/** Returns all lines of both texts in order: a longest common subsequence stays, what is beside it was removed or added. */
export function diff(before: string, after: string): Line[] {
    const [from, to] = [before.split("\n"), after.split("\n")];
    let start = 0;
    while (start < from.length && start < to.length && from[start] === to[start]) start += 1;
    let end = 0;
    const limit = Math.min(from.length, to.length) - start;
    while (end < limit && from[from.length - 1 - end] === to[to.length - 1 - end]) end += 1;
    const [old, now] = [from.slice(start, from.length - end), to.slice(start, to.length - end)];

    // length[i][j]: of the longest common subsequence of what is behind i and j. Manifests have hundreds of lines at most.
    const length = Array.from({ length: old.length + 1 }, () => new Uint32Array(now.length + 1));
    for (let i = old.length - 1; i >= 0; i--)
        for (let j = now.length - 1; j >= 0; j--)
            length[i]![j] =
                old[i] === now[j]
                    ? length[i + 1]![j + 1]! + 1
                    : Math.max(length[i + 1]![j]!, length[i]![j + 1]!);

    const same = (text: string): Line => ({ is: "same", text });
    const result = from.slice(0, start).map(same);
    for (let i = 0, j = 0; i < old.length || j < now.length;) {
        if (i < old.length && j < now.length && old[i] === now[j]) {
            result.push(same(old[i]!));
            i += 1;
            j += 1;
        } else if (i < old.length && (j === now.length || length[i + 1]![j]! >= length[i]![j + 1]!)) {
            result.push({ is: "removed", text: old[i]! });
            i += 1;
        } else {
            result.push({ is: "added", text: now[j]! });
            j += 1;
        }
    }
    return [...result, ...from.slice(from.length - end).map(same)];
}

/** Returns the parts of a difference: changed lines with those around them, and how many are left out between. */
export function hunks(lines: readonly Line[], around = 3): (Line | { is: "skipped"; count: number })[] {
    const isNear = lines.map((_, at) =>
        lines.slice(Math.max(0, at - around), at + around + 1).some(({ is }) => is !== "same"),
    );
    const result: (Line | { is: "skipped"; count: number })[] = [];
    for (const [at, line] of lines.entries()) {
        const last = result.at(-1);
        if (isNear[at]) result.push(line);
        else if (last?.is === "skipped") last.count += 1;
        else result.push({ is: "skipped", count: 1 });
    }
    return result;
}

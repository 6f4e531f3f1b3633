// What stands on the screen of a chat, frame by frame. It is read in the page: a way over the protocol of the browser is longer than a frame.
import type { Page } from "@playwright/test";

/** A message as it was shown; `state` is that of an own one. */
export type Row = { seq: number; text: string; state?: string };

/** `framesMs` are those in which the list moved, `shown` the messages that were elements at some time, as ranges. */
export type Scrolled = {
    framesMs: number[];
    rows: Row[];
    shown: Array<[from: number, to: number]>;
    faults: string[];
    seconds: number;
};

/** Of a scroll towards the first message. */
type Way = {
    /** Where it ends: this message is among the elements, and when it is the first one, nothing is above it. */
    until: number;
    isFirst?: boolean;
    /** How much of the list's height one frame moves. */
    share?: number;
    /** Whether the rows are kept, which a long way does without. */
    keepsRows?: boolean;
};

/** Scrolls up, a part of the screen with each frame, and waits at the top of what is there for what comes before. */
export function scrollUp(page: Page, way: Way): Promise<Scrolled> {
    return page.evaluate(async ({ until, isFirst = false, share = 0.8, keepsRows = true }) => {
        const STUCK_MS = 30_000;
        const feed = document.querySelector<HTMLElement>('[role="feed"][aria-label="Messages"]')!;
        const frame = () => new Promise<number>((resolve) => requestAnimationFrame(resolve));
        const seen = new Set<number>();
        const rows = new Map<number, Row>();
        const framesMs: number[] = [];
        const faults: string[] = [];
        const height = feed.clientHeight;
        const beganMs = await frame();
        let [nowMs, lowest, movedMs, isMoving] = [beganMs, Infinity, beganMs, false];
        for (;;) {
            let before = -Infinity;
            for (const article of feed.querySelectorAll("article[aria-posinset]")) {
                const seq = Number(article.getAttribute("aria-posinset"));
                if (seq <= before && faults.length < 20) faults.push(`${seq} stands behind ${before}`);
                before = seq;
                seen.add(seq);
                if (seq < lowest) [lowest, movedMs] = [seq, nowMs];
                if (!keepsRows) continue;
                const state = article.querySelector<HTMLElement>(".ticks")?.dataset["state"];
                const text = article.querySelector(".text")?.textContent ?? "";
                rows.set(seq, { seq, text, ...(state !== undefined && { state }) });
            }
            const top = feed.scrollTop;
            if (lowest <= until && (!isFirst || top <= 0)) break;
            if (nowMs - movedMs > STUCK_MS) {
                const where = `at ${top} px of ${feed.scrollHeight}, message ${lowest}`;
                throw new Error(`the list has not moved towards message ${until} for 30 s: ${where}`);
            }
            isMoving = top > 0;
            feed.scrollTop = Math.max(0, top - share * height);
            const nextMs = await frame();
            if (isMoving) framesMs.push(nextMs - nowMs);
            nowMs = nextMs;
        }
        const found = [...rows.values()].sort((one, other) => one.seq - other.seq);
        const seconds = (nowMs - beganMs) / 1_000;
        const shown: Array<[number, number]> = [];
        for (const seq of [...seen].sort((one, other) => one - other)) {
            const last = shown.at(-1);
            if (last?.[1] === seq - 1) last[1] = seq;
            else shown.push([seq, seq]);
        }
        return { framesMs, rows: found, shown, faults, seconds };
    }, way);
}

/** Returns all messages of a chat that is shown at its end, as they are shown, from `first` on. */
export async function readUp(page: Page, first: number): Promise<Row[]> {
    const { rows, faults } = await scrollUp(page, { until: first, isFirst: true });
    if (faults.length > 0) throw new Error(faults.join("\n"));
    return rows;
}

/** What `watch` saw. `ticked` has the number under which each text was shown as sent. */
export type Seen = {
    frames: number;
    faults: string[];
    ticked: Record<string, number>;
    /** From the frame in which an own message was first seen to the one in which it was sent. */
    waitsMs: number[];
};

declare global {
    interface Window {
        seen: Seen & { isOver: boolean };
    }
}

/**
 * Looks at every frame from now on, until the returned function is called: a text that stands twice, a message behind a later one, and one that was
 * sent and is not any more, or under another number, are faults. It is for chats whose texts all differ.
 */
export async function watch(page: Page): Promise<() => Promise<Seen>> {
    await page.evaluate(() => {
        const feed = document.querySelector<HTMLElement>('[role="feed"][aria-label="Messages"]')!;
        const firstMs = new Map<string, number>();
        window.seen = { frames: 0, faults: [], ticked: {}, waitsMs: [], isOver: false };
        const { seen } = window;
        const fault = (text: string) => {
            if (seen.faults.length < 50 && !seen.faults.includes(text)) seen.faults.push(text);
        };
        const look = (nowMs: number) => {
            if (seen.isOver) return;
            seen.frames += 1;
            const texts = new Set<string>();
            let before = -Infinity;
            for (const article of feed.querySelectorAll("article")) {
                const text = article.querySelector(".text")?.textContent ?? "";
                if (text === "") continue;
                if (texts.has(text)) fault(`twice on the screen: ${text}`);
                texts.add(text);
                const isOwn = article.dataset["own"] === "true";
                if (isOwn && !firstMs.has(text)) firstMs.set(text, nowMs);
                // One that is on its way has no number.
                const place = article.getAttribute("aria-posinset");
                if (place === null) {
                    if (seen.ticked[text] !== undefined) fault(`sent, and then on its way: ${text}`);
                    continue;
                }
                const seq = Number(place);
                if (seq <= before) fault(`${seq} behind ${before}: ${text}`);
                before = seq;
                const known = seen.ticked[text];
                if (known === undefined && isOwn) seen.waitsMs.push(nowMs - firstMs.get(text)!);
                if (known !== undefined && known !== seq) fault(`first ${known}, then ${seq}: ${text}`);
                seen.ticked[text] = seq;
            }
            requestAnimationFrame(look);
        };
        requestAnimationFrame(look);
    });
    return () =>
        page.evaluate(() => {
            window.seen.isOver = true;
            const { frames, faults, ticked, waitsMs } = window.seen;
            return { frames, faults, ticked, waitsMs };
        });
}

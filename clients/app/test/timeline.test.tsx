// The list of messages with a layout that a test makes up: every row is 50 pixels high, and the screen shows 600.
import { act, fireEvent, screen, waitFor } from "@testing-library/react";
import { beforeEach, expect, test, vi } from "vitest";
import { Timeline } from "../src/ui/timeline";
import { CHAT, chatState, entry, stand, type Stand } from "./stand";

const ROW_PX = 50;
const SCREEN_PX = 600;

/** Tells each observed element its size, in the next turn as a browser does. */
class Sizes {
    readonly #tell: ResizeObserverCallback;

    constructor(tell: ResizeObserverCallback) {
        this.#tell = tell;
    }

    observe(target: Element): void {
        const height = target.getAttribute("role") === "feed" ? SCREEN_PX : ROW_PX;
        queueMicrotask(() => {
            if (target.isConnected)
                this.#tell(
                    [{ target, contentRect: { width: 400, height } } as unknown as ResizeObserverEntry],
                    this as unknown as ResizeObserver,
                );
        });
    }

    unobserve(): void {}

    disconnect(): void {}
}

let scrolls: { mock: { calls: unknown[] } };

beforeEach(() => {
    vi.stubGlobal("ResizeObserver", Sizes);
    Object.defineProperty(HTMLElement.prototype, "offsetParent", {
        configurable: true,
        get: () => document.body,
    });
    // A browser tells of each scroll in the next frame, also of those that a program makes.
    const tops = new WeakMap<Element, number>();
    Object.defineProperty(HTMLElement.prototype, "scrollTop", {
        configurable: true,
        get(this: HTMLElement) {
            return tops.get(this) ?? 0;
        },
        set(this: HTMLElement, top: number) {
            tops.set(this, top);
            queueMicrotask(() => fireEvent.scroll(this));
        },
    });
    // A browser goes no further than the content, and tells of it.
    scrolls = vi.spyOn(HTMLElement.prototype, "scrollTo").mockImplementation(function (
        this: HTMLElement,
        to?: ScrollToOptions | number,
    ) {
        const height = parseFloat((this.firstElementChild as HTMLElement).style.height);
        scroll(this, Math.max(0, Math.min((to as ScrollToOptions).top ?? 0, height - SCREEN_PX)));
    } as typeof HTMLElement.prototype.scrollTo);
    vi.spyOn(document, "hasFocus").mockReturnValue(true);
});

const log = (count: number) => Array.from({ length: count }, (_, at) => entry(at + 1));

/** Shows a chat of so many messages, of which `here` are there at first. */
async function shown(
    count: number,
    fields = {},
    at?: number,
    here = count,
): Promise<Stand & { feed: HTMLElement; onArrived: ReturnType<typeof vi.fn> }> {
    const watermarks = { read_seq: count, delivered_seq: count, unread: 0, mentions: 0, counted_seq: count };
    const state = chatState({ head_seq: count, watermarks, ...fields });
    const on = await stand(state, log(count), {}, here);
    const onArrived = vi.fn();
    on.show(
        <Timeline chat={state} {...(at !== undefined && { at })} onArrived={onArrived} act={() => undefined} />,
    );
    const feed = screen.getByRole("feed");
    return { ...on, feed, onArrived };
}

const seqs = () => screen.queryAllByRole("article").map((row) => Number(row.getAttribute("aria-posinset")));

/** Waits until the list has come to rest: for 150 ms it goes on with a scroll of its own while rows get their sizes. */
async function atRest(): Promise<void> {
    let before = -1;
    await waitFor(
        () => {
            const isSame = scrolls.mock.calls.length === before;
            before = scrolls.mock.calls.length;
            expect(isSame).toBe(true);
        },
        { interval: 200, timeout: 5_000 },
    );
}

function scroll(feed: HTMLElement, top: number): void {
    feed.scrollTop = top;
}

test("of many messages the last ones are elements, and no more than a screen needs", async () => {
    const { workspace } = await shown(100);
    await waitFor(() => expect(seqs().at(-1)).toBe(100));
    expect(seqs().length).toBeLessThan(40);
    await waitFor(() => expect(workspace.read).toHaveBeenCalledWith(CHAT, 100));
});

test("a message that comes is shown to who is at the end, and moves no one else", async () => {
    const { room, feed } = await shown(100);
    await waitFor(() => expect(seqs().at(-1)).toBe(100));
    act(() => room.take(entry(101)));
    await waitFor(() => expect(seqs().at(-1)).toBe(101));
    await atRest();
    scroll(feed, 1_500);
    await waitFor(() => expect(seqs()).toContain(35));
    const before = feed.scrollTop;
    act(() => room.take(entry(102)));
    await screen.findByRole("button", { name: /To the newest messages/ });
    expect(feed.scrollTop).toBe(before);
    expect(seqs()).toContain(35);
});

test("a page that comes before keeps the place of what is read", async () => {
    const { room, feed } = await shown(300, {}, undefined, 100);
    await waitFor(() => expect(seqs().at(-1)).toBe(300));
    const [first, rows] = [room.entries[0]!.seq, room.entries.length];
    expect([first, rows]).toEqual([201, 100]);
    await atRest();
    scroll(feed, 200);
    await waitFor(() => expect(room.entries[0]!.seq).toBe(101));
    await waitFor(() => expect(feed.scrollTop).toBe(200 + 100 * ROW_PX));
    await waitFor(() => expect(seqs()).toContain(206));
    // And fetches no other one: the reader is a page away from the beginning.
    expect(room.entries[0]!.seq).toBe(101);
});

test("a jump puts the message on the screen and the focus on it", async () => {
    const { onArrived } = await shown(200, {}, 60);
    await waitFor(() => expect(onArrived).toHaveBeenCalledWith(true));
    await waitFor(() => expect(document.activeElement?.getAttribute("aria-posinset")).toBe("60"));
});

test("a jump to what is not there says so", async () => {
    const { onArrived } = await shown(20, {}, 500);
    await waitFor(() => expect(onArrived).toHaveBeenCalledWith(false));
});

test("what a user sends from far back leads to the end", async () => {
    const { feed, workspace } = await shown(100);
    await waitFor(() => expect(seqs().at(-1)).toBe(100));
    await atRest();
    scroll(feed, 500);
    await screen.findByRole("button", { name: /To the newest messages/ });
    act(() => workspace.send(CHAT, { kind: "text", body: "from far back" }));
    await screen.findByText("from far back");
    await waitFor(() => expect(feed.scrollTop).toBe(101 * ROW_PX - SCREEN_PX));
});

test("the arrows go from message to message", async () => {
    const { feed } = await shown(100);
    await waitFor(() => expect(seqs().at(-1)).toBe(100));
    act(() => screen.getAllByRole("article").at(-1)!.focus());
    fireEvent.keyDown(feed, { key: "ArrowUp" });
    await waitFor(() => expect(document.activeElement?.getAttribute("aria-posinset")).toBe("99"));
    fireEvent.keyDown(document.activeElement!, { key: "Home" });
    await waitFor(() => expect(document.activeElement?.getAttribute("aria-posinset")).toBe("1"));
});

test("where the unread begins is marked, and stays marked while it is read", async () => {
    const watermarks = { read_seq: 90, delivered_seq: 100, unread: 10, mentions: 0, counted_seq: 100 };
    const { workspace } = await shown(100, { watermarks });
    expect(await screen.findByText("Unread messages")).toBeDefined();
    await waitFor(() => expect(workspace.read).toHaveBeenCalled());
    expect(screen.getByText("Unread messages")).toBeDefined();
});

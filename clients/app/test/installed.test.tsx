// The page beside its service worker.
import { act, screen, waitFor } from "@testing-library/react";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { installed, Installed } from "../src/installed";
import { Updates } from "../src/ui/updates";
import type { ToPage, ToWorker } from "../src/worker/words";
import { CHAT, stand } from "./stand";

/** What a page sees of its worker. */
class FakeContainer extends EventTarget {
    said: ToWorker[] = [];
    controller: { postMessage: (word: ToWorker) => void } | null = null;
    readonly active = { postMessage: (word: ToWorker) => this.said.push(word) };
    readonly registration = { active: this.active, update: vi.fn(async () => undefined) };
    readonly ready = Promise.resolve(this.registration);
    register = vi.fn(async () => this.registration);

    /** The worker takes the page over. */
    takeOver(): void {
        this.controller = this.active;
        this.dispatchEvent(new Event("controllerchange"));
    }

    say(word: ToPage): void {
        this.dispatchEvent(new MessageEvent("message", { data: word }));
    }
}

let container: FakeContainer;

beforeEach(() => {
    container = new FakeContainer();
    Object.defineProperty(navigator, "serviceWorker", { configurable: true, value: container });
});
afterEach(() => {
    Reflect.deleteProperty(navigator, "serviceWorker");
    Reflect.deleteProperty(globalThis, "trustedTypes");
});

test("the policy of the page lets its worker be a script, and nothing else", async () => {
    let rules: { createScriptURL: (url: string) => string } | undefined;
    const createPolicy = vi.fn((_: string, given: typeof rules) => (rules = given));
    Object.assign(globalThis, { trustedTypes: { createPolicy } });
    await new Installed().install();
    expect(createPolicy.mock.calls[0]![0]).toBe("posthouse-worker");
    expect(container.register).toHaveBeenCalledWith("/app/sw.js", { scope: "/", updateViaCache: "none" });
    expect(() => rules!.createScriptURL("https://evil.example/sw.js")).toThrow(TypeError);
});

test("the first worker is no later release, and the next one is when the page is not of it", async () => {
    const page = new Installed();
    await page.install();
    container.takeOver();
    container.say({ is: "version", isCurrent: false });
    expect(page.isOutdated).toBe(false);

    const next = new Installed();
    await next.install();
    container.say({ is: "version", isCurrent: false });
    expect(next.isOutdated).toBe(false);
    container.takeOver();
    container.say({ is: "version", isCurrent: true });
    expect(next.isOutdated).toBe(false);
    container.say({ is: "version", isCurrent: false });
    expect(next.isOutdated).toBe(true);
});

test("a later release is announced, and loaded when the user wants it", async () => {
    container.controller = container.active;
    await installed.install();
    const { show } = await stand();
    show(<Updates />);
    expect(screen.queryByRole("button")).toBeNull();
    await waitFor(() => expect(container.said).toContainEqual({ is: "language", tag: "en" }));
    act(() => {
        container.takeOver();
        container.say({ is: "version", isCurrent: false });
    });
    expect(await screen.findByText("There is a new version of the messenger.")).toBeDefined();
    const reload = vi.spyOn(location, "reload").mockImplementation(() => undefined);
    screen.getByRole("button", { name: "Load it" }).click();
    expect(reload).toHaveBeenCalledOnce();
});

test("a chosen notification leads to its message", async () => {
    const page = new Installed();
    const chosen = vi.fn();
    page.onChosen = chosen;
    await page.install();
    container.say({ is: "chosen", place: { chat: CHAT, seq: 7 } });
    expect(chosen).toHaveBeenCalledWith({ chat: CHAT, seq: 7 });
});

test("a browser without workers has the page all the same", async () => {
    Reflect.deleteProperty(navigator, "serviceWorker");
    const page = new Installed();
    await page.install();
    expect(page.registration).toBeUndefined();
});

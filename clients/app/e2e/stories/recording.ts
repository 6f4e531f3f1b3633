// One film of several pages, side by side. The browser encodes it: Playwright's own films need a program that Debian's Chromium does not bring.
import { mkdir, stat, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import type { Browser, BrowserContext, Page } from "@playwright/test";

/** Of each page in the film. */
const SIZE = { width: 800, height: 450 };
const CAPTION = 34;
const FRAMES_PER_SECOND = 5;

declare global {
    interface Window {
        film: {
            draw(place: number, jpeg: string): Promise<void>;
            say(caption: string): void;
            end(): Promise<string>;
        };
    }
}

type Stage = { width: number; height: number; caption: number; places: number; perSecond: number };

/** Runs in the page of the film. */
function install({ width, height, caption, places, perSecond }: Stage): void {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [width * places, height + caption];
    document.body.append(canvas);
    const brush = canvas.getContext("2d")!;
    const bytesOf = (text: string) => Uint8Array.from(atob(text), (one) => one.charCodeAt(0));
    const say = (text: string) => {
        brush.fillStyle = "#1d1d1f";
        brush.fillRect(0, height, canvas.width, caption);
        brush.fillStyle = "#ffffff";
        brush.font = "18px sans-serif";
        brush.fillText(text, 12, height + 23);
    };
    say("");
    const chunks: Blob[] = [];
    const recorder = new MediaRecorder(canvas.captureStream(perSecond), {
        mimeType: "video/webm;codecs=vp8",
        videoBitsPerSecond: 2_000_000,
    });
    recorder.ondataavailable = ({ data }) => chunks.push(data);
    recorder.start(1_000);
    window.film = {
        say,
        draw: async (place, jpeg) => {
            const picture = await createImageBitmap(new Blob([bytesOf(jpeg)], { type: "image/jpeg" }));
            brush.drawImage(picture, place * width, 0, width, height);
            picture.close();
        },
        end: () =>
            new Promise((resolve, reject) => {
                recorder.onstop = () => {
                    const reader = new FileReader();
                    reader.onerror = () => reject(reader.error ?? new Error("the film cannot be read"));
                    reader.onload = () => resolve(String(reader.result).split(",")[1]!);
                    reader.readAsDataURL(new Blob(chunks));
                };
                recorder.stop();
            }),
    };
}

export class Recording {
    readonly #pages = new Set<Page>();
    #starts: Promise<unknown> = Promise.resolve();
    /** For each place in the film: how many frames came, and when the next one may be drawn. */
    readonly #places = new Map<number, { count: number; nextMs: number }>();

    private constructor(
        readonly context: BrowserContext,
        readonly page: Page,
    ) {}

    /** Begins a film of so many pages. */
    static async begin(browser: Browser, places: number): Promise<Recording> {
        const viewport = { width: SIZE.width * places, height: SIZE.height + CAPTION };
        const context = await browser.newContext({ viewport });
        const page = await context.newPage();
        const stage = { ...SIZE, caption: CAPTION, places, perSecond: FRAMES_PER_SECOND };
        await page.evaluate(install, stage);
        return new Recording(context, page);
    }

    /** Films the pages of a context from their first moment on. */
    film(place: number, context: BrowserContext): void {
        context.on("page", (page) => {
            this.#pages.add(page);
            const onFrame = ({ data }: { data: Buffer }) => this.#draw(place, data);
            const start = page.screencast.start({ onFrame, size: SIZE, quality: 70 });
            this.#starts = Promise.all([this.#starts, start]);
        });
    }

    /** Writes below the pictures what happens. */
    async say(caption: string): Promise<void> {
        await this.page.evaluate((caption) => window.film.say(caption), caption);
    }

    /** Ends the film, and returns its bytes once it is at `path`. */
    async end(path: string): Promise<number> {
        await this.#starts;
        for (const page of this.#pages) await page.screencast.stop();
        const film = await this.page.evaluate(() => window.film.end());
        await mkdir(dirname(path), { recursive: true });
        await writeFile(path, Buffer.from(film, "base64"));
        await this.context.close();
        return (await stat(path)).size;
    }

    /** Draws a frame, unless another one comes before it is its turn. The browser sends no more while some wait here. */
    async #draw(place: number, jpeg: Buffer): Promise<void> {
        const at = this.#places.get(place) ?? { count: 0, nextMs: 0 };
        this.#places.set(place, at);
        const number = (at.count += 1);
        const waitMs = at.nextMs - Date.now();
        if (waitMs > 0) await new Promise((resolve) => setTimeout(resolve, waitMs));
        if (number !== at.count || this.page.isClosed()) return;
        at.nextMs = Date.now() + 1_000 / FRAMES_PER_SECOND;
        const picture = { place, jpeg: jpeg.toString("base64") };
        // One that comes while the film ends is none of it.
        await this.page
            .evaluate(({ place, jpeg }) => window.film.draw(place, jpeg), picture)
            .catch(() => undefined);
    }
}

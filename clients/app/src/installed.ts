// The service worker as a page sees it: it keeps the page's files, shows pushes, and is replaced by that of a later release.
import { Source } from "./shared/source";
import type { NoticeData } from "./worker/notice";
import type { ToPage, ToWorker } from "./worker/words";

const SCRIPT = "/app/sw.js";
/** How often an open page asks whether there is a later release. */
const LOOK_EVERY_MS = 3_600_000;
/** A user who comes back to the page asks, too, but no more often than this. */
const LOOK_PAUSE_MS = 600_000;

/** Of browsers that check what becomes a script. */
type TrustedTypes = {
    createPolicy(
        name: string,
        rules: { createScriptURL(url: string): string },
    ): { createScriptURL(url: string): unknown };
};

export class Installed extends Source {
    /** Whether a later release is there than that of this page. What is open stays as it is until the user reloads. */
    isOutdated = false;
    onChosen: (place: NoticeData) => void = () => undefined;
    onSubscription: () => void = () => undefined;
    #registration: ServiceWorkerRegistration | undefined;
    #lookedAt = 0;
    #hasChanged = false;

    get registration(): ServiceWorkerRegistration | undefined {
        return this.#registration;
    }

    /** Installs the worker, where the browser has such. The page is the same without it. */
    async install(): Promise<void> {
        if (!("serviceWorker" in navigator)) return;
        const { serviceWorker } = navigator;
        const hadWorker = serviceWorker.controller !== null;
        serviceWorker.addEventListener("message", ({ data }: MessageEvent<ToPage>) => this.#take(data));
        serviceWorker.addEventListener("controllerchange", () => {
            // The first worker of a browser is of this page's release.
            this.#hasChanged ||= hadWorker;
            this.#sayOpened();
        });
        try {
            this.#registration = await serviceWorker.register(trusted(SCRIPT), {
                scope: "/",
                updateViaCache: "none",
            });
        } catch {
            // As in a private window of some browsers.
            return;
        }
        this.#lookedAt = Date.now();
        this.#sayOpened();
        setInterval(() => this.#look(0), LOOK_EVERY_MS);
        document.addEventListener("visibilitychange", () => {
            if (document.visibilityState === "visible") this.#look(LOOK_PAUSE_MS);
        });
        this.changed();
    }

    /** Says in which language pushes are to be. */
    async speak(tag: string): Promise<void> {
        if (!("serviceWorker" in navigator)) return;
        const { active } = await navigator.serviceWorker.ready;
        active?.postMessage({ is: "language", tag } satisfies ToWorker);
    }

    /** Shows a notification: by the worker where there is one, which brings the user to the page later, too. */
    async show(title: string, options: NotificationOptions & { renotify?: boolean }): Promise<void> {
        if (this.#registration?.active) await this.#registration.showNotification(title, options);
        else new Notification(title, options).onclick = () => this.#clicked(options.data as NoticeData);
    }

    /** Takes away the notifications of chats of which nothing is unread any more. */
    async clear(isRead: (chat: string) => boolean): Promise<void> {
        const shown = (await this.#registration?.getNotifications()) ?? [];
        for (const notification of shown) {
            const chat = (notification.data as NoticeData | null)?.chat;
            if (chat !== undefined && isRead(chat)) notification.close();
        }
    }

    /** Takes away all that the browser shows of a user who is signed in no more. */
    async forget(): Promise<void> {
        if ("clearAppBadge" in navigator) await navigator.clearAppBadge().catch(() => undefined);
        if (!("serviceWorker" in navigator)) return;
        // A page that has just been opened has not installed its worker, and takes away what that of another day showed.
        const registration = this.#registration ?? (await navigator.serviceWorker.getRegistration());
        for (const notification of (await registration?.getNotifications()) ?? []) notification.close();
    }

    #clicked(place: NoticeData): void {
        window.focus();
        this.onChosen(place);
    }

    #take(word: ToPage): void {
        if (word.is === "chosen") this.onChosen(word.place);
        else if (word.is === "subscription") this.onSubscription();
        else if (this.#hasChanged && !word.isCurrent) {
            this.isOutdated = true;
            this.changed();
        }
    }

    #sayOpened(): void {
        const script = document.querySelector<HTMLScriptElement>('script[type="module"][src]')?.src;
        if (script === undefined) return;
        const word: ToWorker = { is: "opened", script: new URL(script).pathname };
        navigator.serviceWorker.controller?.postMessage(word);
    }

    #look(pauseMs: number): void {
        if (Date.now() - this.#lookedAt < pauseMs) return;
        this.#lookedAt = Date.now();
        // Without a connection it is asked the next time.
        this.#registration?.update().catch(() => undefined);
    }
}

/** Returns the one script that the page's policy lets it register. */
function trusted(script: string): string {
    const { trustedTypes } = globalThis as { trustedTypes?: TrustedTypes };
    if (!trustedTypes) return script;
    const createScriptURL = (url: string) => {
        if (url !== SCRIPT) throw new TypeError(`${url} is not the worker of this page`);
        return url;
    };
    return trustedTypes.createPolicy("posthouse-worker", { createScriptURL }).createScriptURL(script) as string;
}

/** That of this page. */
export const installed = new Installed();

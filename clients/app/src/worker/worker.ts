// The service worker: it keeps the files of the page, and shows pushes. It has no token, and keeps nothing of a user.
import { addressOf, readNotice, shown, type NoticeData, type PushTexts } from "./notice";
import { Shell, wayOf, type Build } from "./shell";
import type { ToPage, ToWorker } from "./words";

declare const self: ServiceWorkerGlobalScope;
/** By the build. */
declare const BUILD: Build;
declare const PUSH_TEXTS: PushTexts;

/** Longer than a slow connection takes, and shorter than a user waits. */
const PATIENCE_MS = 4_000;
const SETTINGS_CACHE = "posthouse-settings";
const LANGUAGE = "/language";

const shell = new Shell(
    {
        caches: self.caches,
        fetch: (request, init) => fetch(request, init),
        patienceMs: PATIENCE_MS,
        leave: () => self.registration.unregister(),
    },
    BUILD,
);

self.addEventListener("install", (event) => {
    // It takes over at once: files of the build before stay here for the pages that are open.
    event.waitUntil(shell.install().then(() => self.skipWaiting()));
});

self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));

self.addEventListener("fetch", (event) => {
    const { request } = event;
    const way = wayOf(request.method, new URL(request.url), self.location.origin);
    if (way) event.respondWith(shell.answer(way, request));
});

self.addEventListener("message", (event) => {
    const word = event.data as ToWorker;
    if (word.is === "language") event.waitUntil(keepLanguage(word.tag));
    else if (word.is === "opened") event.waitUntil(opened(word.script, event.source as Client | null));
});

self.addEventListener("push", (event) => event.waitUntil(pushed(event.data?.text() ?? "")));

self.addEventListener("notificationclick", (event) => {
    event.notification.close();
    event.waitUntil(chosen(event.notification.data as NoticeData | null));
});

self.addEventListener("pushsubscriptionchange", (event) => {
    // Only a page can tell the messenger: the worker has no token. The next one that opens does.
    (event as ExtendableEvent).waitUntil(
        windows().then((open) => open.forEach((client) => say(client, { is: "subscription" }))),
    );
});

async function opened(script: string, page: Client | null): Promise<void> {
    const isCurrent = shell.has(script);
    if (page) say(page, { is: "version", isCurrent });
    if (isCurrent && (await windows()).length <= 1) await shell.forgetOthers();
}

async function pushed(text: string): Promise<void> {
    const notice = readNotice(text);
    if (notice && "setAppBadge" in self.navigator) {
        // Where the page is not installed there is no place for it.
        await self.navigator.setAppBadge(notice.badge).catch(() => undefined);
    }
    // A page that the user looks at says it by itself.
    if ((await windows()).some((client) => client.focused)) return;
    const { title, options } = shown(notice, PUSH_TEXTS, await language());
    await self.registration.showNotification(title, options);
}

async function chosen(place: NoticeData | null): Promise<void> {
    const open = await windows();
    const page = open.find((client) => client.focused) ?? open[0];
    if (!page) {
        await self.clients.openWindow(place ? addressOf(place) : "/");
        return;
    }
    await page.focus();
    if (place) say(page, { is: "chosen", place });
}

/** Returns the pages of the messenger, those first that the user looked at last. */
function windows(): Promise<readonly WindowClient[]> {
    return self.clients
        .matchAll({ type: "window", includeUncontrolled: true })
        .then((all) => all.filter(({ url }) => new URL(url).pathname === "/"));
}

function say(client: Client, word: ToPage): void {
    client.postMessage(word);
}

async function keepLanguage(tag: string): Promise<void> {
    const cache = await self.caches.open(SETTINGS_CACHE);
    await cache.put(LANGUAGE, new Response(tag));
}

async function language(): Promise<string> {
    const kept = await self.caches.match(LANGUAGE);
    return (await kept?.text()) ?? self.navigator.language;
}

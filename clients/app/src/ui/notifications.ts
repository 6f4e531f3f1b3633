// Notifications of messages: by the page while it is open and not seen, and by pushes while none is (`worker/worker.ts`).
import { useEffect } from "react";
import { installed } from "../installed";
import { go } from "../place";
import { useSource } from "../shared/source";
import { plainName } from "../text/markup";
import { usePage, useText, useWorkspace } from "./context";
import { useChatName, useLikeName } from "./names";

const MAX_SHOWN_CHARACTERS = 140;
/** In this time all tabs of a browser have had a message. */
const SETTLED_MS = 5_000;

export function useNotifications(): void {
    useNews();
    usePushes();
    useBadge();
}

function useNews(): void {
    const workspace = useWorkspace();
    const { preferences, config, say } = usePage();
    const { notices, connection } = workspace;
    const { state } = useSource(connection);
    const t = useText();
    const nameOf = useChatName();
    const likeName = useLikeName();
    const hasWishes = config.services.includes("notification") && preferences.notifies;
    // Nothing is pushed of what another device of the user changes.
    useEffect(() => {
        if (hasWishes && state === "online") void notices.loadPreferences();
    }, [notices, hasWishes, state]);
    useEffect(() => {
        workspace.onNews = ({ message, chat }) => {
            const profile = workspace.users.get(message.sender);
            const like = likeName(message.sender);
            const sender = `${plainName(profile?.display_name ?? t("someone"))}${like === undefined ? "" : ` @${like}`}`;
            const text = message.body === "" ? t("sentFile") : message.body.slice(0, MAX_SHOWN_CHARACTERS);
            if (document.visibilityState === "visible" && document.hasFocus()) {
                say(t("announced", { sender, chat: nameOf(chat), text }));
                return;
            }
            const isMuted = message.silent === true || (chat.own.muted_until_ms ?? 0) > Date.now();
            if (
                !preferences.notifies ||
                isMuted ||
                !notices.wants(message, chat.kind, workspace.user, Date.now()) ||
                !("Notification" in window) ||
                Notification.permission !== "granted"
            )
                return;
            const { chat: id, seq } = message;
            const isShown = notices.preferences?.shows_text !== false;
            const name = chat.kind === "direct" ? undefined : nameOf(chat);
            // As a push has it: without the text there is no sender.
            const who = [...(isShown ? [sender] : []), ...(name === undefined ? [] : [name])];
            const title = who.join(" · ") || t("push.title");
            const count = Math.max(1, chat.watermarks.unread);
            // A chat has one notification, whether the page shows it or a push.
            const options = {
                body: isShown ? text : t("push.unread", { count }),
                tag: id,
                renotify: true,
                icon: "/app/icon-192.png",
            };
            // What the browser does not show, as where it wants a worker for it, stands in the list.
            onceInBrowser(`${id}/${seq}`, () =>
                installed.show(title, { ...options, data: { chat: id, seq } }),
            ).catch(() => undefined);
        };
    });
    useEffect(() => {
        installed.onChosen = ({ chat, seq }) => go({ chat, at: seq });
    }, []);
}

/** Does in one of the tabs what each of them would do. */
async function onceInBrowser(name: string, what: () => Promise<void>): Promise<void> {
    if (!navigator.locks) return what();
    await navigator.locks.request(`posthouse/notice/${name}`, { ifAvailable: true }, async (lock) => {
        if (!lock) return;
        await what();
        await new Promise((resolve) => setTimeout(resolve, SETTLED_MS));
    });
}

/** Keeps this browser subscribed, as its user wants. */
function usePushes(): void {
    const { push } = useWorkspace();
    const { preferences, config } = usePage();
    const { registration } = useSource(installed);
    useEffect(() => {
        if (!registration || !config.services.includes("notification")) return;
        const renew = async () => {
            if (push.isOfAnother) {
                // Who was here before did not sign out. What they wanted says nothing of this user.
                await push.end();
                preferences.set({ notifies: false });
            } else if (preferences.notifies && Notification.permission === "granted") await push.begin();
        };
        // Without a connection the next page does it.
        const renewQuietly = () => void renew().catch(() => undefined);
        installed.onSubscription = renewQuietly;
        renewQuietly();
    }, [push, preferences, config, registration]);
}

/** Shows on the icon of the installed messenger what is unread, and takes away notifications of what is read. */
function useBadge(): void {
    const { chats } = useWorkspace();
    const { unread, isComplete } = useSource(chats);
    useEffect(() => {
        if (!isComplete) return;
        if ("setAppBadge" in navigator) navigator.setAppBadge(unread.unread).catch(() => undefined);
        void installed.clear((chat) => chats.get(chat)?.watermarks.unread === 0).catch(() => undefined);
    }, [chats, isComplete, unread.unread]);
}

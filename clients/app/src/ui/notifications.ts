// Notifications while the page is open and not seen. Those of a closed page are Web Push, of the service notification.
import { useEffect } from "react";
import { go } from "../place";
import { plainName } from "../text/markup";
import { usePage, useText, useWorkspace } from "./context";
import { useChatName } from "./names";

const MAX_SHOWN_CHARACTERS = 140;

export function useNotifications(): void {
    const workspace = useWorkspace();
    const { preferences, say } = usePage();
    const t = useText();
    const nameOf = useChatName();
    useEffect(() => {
        workspace.onNews = ({ message, chat }) => {
            const sender = plainName(workspace.users.get(message.sender)?.display_name ?? t("someone"));
            const text = message.body === "" ? t("sentFile") : message.body.slice(0, MAX_SHOWN_CHARACTERS);
            if (document.visibilityState === "visible" && document.hasFocus()) {
                say(t("announced", { sender, chat: nameOf(chat), text }));
                return;
            }
            const isMuted = message.silent === true || (chat.own.muted_until_ms ?? 0) > Date.now();
            if (
                !preferences.notifies ||
                isMuted ||
                !("Notification" in window) ||
                Notification.permission !== "granted"
            )
                return;
            // Two tabs show one: the same tag replaces.
            const options = { body: text, tag: `${message.chat}/${message.seq}` };
            const notification = new Notification(
                chat.kind === "direct" ? sender : `${sender} · ${nameOf(chat)}`,
                options,
            );
            notification.onclick = () => {
                window.focus();
                go({ chat: message.chat, at: message.seq });
                notification.close();
            };
        };
    });
}

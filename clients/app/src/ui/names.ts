// What users and chats are called.
import type { ChatState } from "../state/chats";
import { useSource } from "../shared/source";
import { useText, useWorkspace } from "./context";

/** Returns what names a user: the own name for a contact, or the name that they give themselves. A deleted account, and one that is not known yet, have no name of their own. */
export function useUserName(): (id: string) => string {
    const { users, contacts } = useWorkspace();
    useSource(users);
    useSource(contacts);
    const t = useText();
    return (id) => {
        const profile = users.get(id);
        if (!profile) return "…";
        if (profile.deleted) return t("deletedUser");
        return contacts.get(id)?.name ?? (profile.display_name || profile.username);
    };
}

/** Returns the username of a user whose name looks like that of another, to be shown beside it. One whom the user has named is told apart by that. */
export function useLikeName(): (id: string | undefined) => string | undefined {
    const { users, contacts } = useWorkspace();
    useSource(users);
    useSource(contacts);
    return (id) => {
        if (id === undefined || contacts.get(id)?.name || !users.isLikeAnother(id)) return undefined;
        return users.known(id)?.username;
    };
}

/** Returns what names a chat: its title, or the other user of a direct one. */
export function useChatName(): (chat: ChatState) => string {
    const nameOf = useUserName();
    const t = useText();
    return (chat) => chat.title ?? (chat.other === undefined ? t("untitled") : nameOf(chat.other));
}

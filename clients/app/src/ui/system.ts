// What an entry says that is no message: who came, who left, what the group is called.
import type { socket } from "@posthouse/client";
import type { Key } from "../text/texts";
import { usePage, useText, useWorkspace } from "./context";
import { useUserName } from "./names";

type Message = socket.Message;

export function useSystemText(): (message: Message) => string {
    const t = useText();
    const { texts } = usePage();
    const { user } = useWorkspace();
    const userName = useUserName();
    // One's own name is for others.
    const nameOf = (id: string) => (id === user ? t("you") : userName(id));
    const detail = ({ kind, body }: Message) => {
        if (kind === "slow_mode_changed" || kind === "ttl_changed") return texts.span(Number(body) || 0);
        const isRole = body === "owner" || body === "admin" || body === "member";
        return kind === "role_changed" && isRole ? t(`role.${body}`) : body;
    };
    return (message) =>
        t(systemKey(message, user), {
            sender: nameOf(message.sender),
            subject: nameOf(message.subject ?? message.sender),
            text: detail(message),
        });
}

function systemKey({ kind, sender, subject = sender, body }: Message, user: string): Key {
    const isAboutOwn = subject === user && sender !== user;
    switch (kind) {
        case "member_removed":
            if (isAboutOwn) return "entry.member_removed.you";
            return subject === sender ? "entry.member_left" : "entry.member_removed";
        case "member_added":
            if (isAboutOwn) return "entry.member_added.you";
            return subject === sender ? "entry.member_joined" : "entry.member_added";
        case "role_changed":
            return subject === user ? "entry.role_changed.you" : "entry.role_changed";
        case "topic_changed":
        case "avatar_changed":
            return body === "" ? `entry.${kind}.none` : `entry.${kind}`;
        case "slow_mode_changed":
        case "ttl_changed":
            return Number(body) > 0 ? `entry.${kind}` : `entry.${kind}.none`;
        default:
            return `entry.${kind === "text" ? "pin" : kind}`;
    }
}

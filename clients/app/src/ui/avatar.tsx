// Pictures of users and chats. They are looked up when they come to the screen, and letters stand there until then.
import { useEffect, useRef, type ReactNode } from "react";
import type { Pictured } from "../state/avatars";
import type { ChatState } from "../state/chats";
import { useSource } from "../shared/source";
import { usePage, useWorkspace } from "./context";
import { Avatar } from "./parts";

/** The picture of a user. */
export function UserAvatar({
    user,
    name,
    isOnline = false,
}: {
    user: string;
    name: string;
    isOnline?: boolean;
}): ReactNode {
    return <Picture id={user} name={name} isOnline={isOnline} of={{ user }} />;
}

/** The picture of a group, or of the other user of a direct chat. */
export function ChatAvatar({
    chat,
    name,
    isOnline = false,
}: {
    chat: ChatState;
    name: string;
    isOnline?: boolean;
}): ReactNode {
    const { other, avatar } = chat;
    if (other !== undefined) return <UserAvatar user={other} name={name} isOnline={isOnline} />;
    if (!avatar) return <Avatar id={chat.chat} name={name} />;
    return <Picture id={chat.chat} name={name} isOnline={false} of={{ file: avatar }} />;
}

type Props = { id: string; name: string; isOnline: boolean; of: Pictured };

function Picture({ id, name, isOnline, of }: Props): ReactNode {
    const { config } = usePage();
    const { avatars } = useWorkspace();
    const src = useSource(avatars).get(of);
    const ref = useRef<HTMLSpanElement>(null);
    const isPossible = config.services.includes("media");
    const key = "user" in of ? of.user : of.file;
    useEffect(() => {
        const element = ref.current;
        if (!isPossible || !element) return;
        if (typeof IntersectionObserver !== "function") return avatars.want(of);
        const observer = new IntersectionObserver((entries) => {
            if (!entries.some(({ isIntersecting }) => isIntersecting)) return;
            avatars.want(of);
            observer.disconnect();
        });
        observer.observe(element);
        return () => observer.disconnect();
        // What is pictured has one name, whichever object says it; an address that was lost is looked up again.
    }, [avatars, key, isPossible, src]);
    return (
        <Avatar
            ref={ref}
            id={id}
            name={name}
            isOnline={isOnline}
            {...(src !== undefined && { src, onBroken: () => avatars.lose(of) })}
        />
    );
}

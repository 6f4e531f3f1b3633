// The user's chats, with what is unread in each.
import { useMemo, useRef, useState, type ReactNode } from "react";
import { go, href, type Place } from "../place";
import type { ChatState } from "../state/chats";
import { useSource } from "../shared/source";
import { plainText } from "../text/markup";
import { ChatAvatar } from "./avatar";
import { ChatRowMenu } from "./chat-menu";
import { usePage, useText, useWorkspace } from "./context";
import { useChatName, useLikeName, useUserName } from "./names";
import { Icon, IconButton, Name, Username, type IconName } from "./parts";
import { useSystemText } from "./system";

export function ChatListPanel({ place }: { place: Place }): ReactNode {
    const t = useText();
    const { config } = usePage();
    const { chats, standing } = useWorkspace();
    const { moderates } = useSource(standing);
    const { sorted, isComplete } = useSource(chats);
    const [showsArchived, setShowsArchived] = useState(false);
    const archived = sorted.filter(({ own }) => own.archived);
    const shown = showsArchived ? sorted : sorted.filter(({ own }) => !own.archived);
    return (
        <nav className="chat-list" aria-label={t("chats")}>
            <header>
                <h1>{config.name}</h1>
                <IconButton
                    icon="search"
                    label={t("search")}
                    onClick={() => go({ ...place, panel: "search" })}
                />
                <IconButton icon="new" label={t("newChat")} onClick={() => go({ ...place, panel: "new" })} />
                {moderates && (
                    <IconButton
                        icon="shield"
                        label={t("administration")}
                        aria-current={place.admin === undefined ? undefined : "page"}
                        onClick={() => go({ admin: "queue" })}
                    />
                )}
                <IconButton
                    icon="settings"
                    label={t("settings")}
                    onClick={() => go({ ...place, panel: "settings" })}
                />
            </header>
            {!isComplete && <p className="hint">{t("loading")}</p>}
            {isComplete && sorted.length === 0 && <p className="hint">{t("noChats")}</p>}
            <ul>
                {shown.map((chat) => (
                    <ChatItem key={chat.chat} chat={chat} isOpen={chat.chat === place.chat} />
                ))}
            </ul>
            {archived.length > 0 && (
                <button
                    type="button"
                    className="link"
                    aria-expanded={showsArchived}
                    onClick={() => setShowsArchived(!showsArchived)}
                >
                    {t("archived", { count: archived.length })}
                </button>
            )}
        </nav>
    );
}

function ChatItem({ chat, isOpen }: { chat: ChatState; isOpen: boolean }): ReactNode {
    const t = useText();
    const { texts } = usePage();
    const { users } = useWorkspace();
    const name = useChatName()(chat);
    const likeName = useLikeName()(chat.other);
    const last = chat.entries.at(-1);
    const { unread, mentions } = chat.watermarks;
    const isMuted = (chat.own.muted_until_ms ?? 0) > Date.now();
    const isOnline = chat.other !== undefined && users.presence(chat.other)?.state === "online";
    const row = useRef<HTMLLIElement>(null);
    /** The row goes to the archive or back: who works by the keyboard goes on at the next one. */
    const leave = () => {
        const next = row.current?.nextElementSibling ?? row.current?.previousElementSibling;
        next?.querySelector("a")?.focus();
    };
    return (
        <li ref={row}>
            <a href={href({ chat: chat.chat })} aria-current={isOpen ? "page" : undefined} data-muted={isMuted}>
                <ChatAvatar chat={chat} name={name} isOnline={isOnline} />
                <span className="title">
                    {chat.own.favourite && <Mark icon="star" label={t("favourite")} />}
                    <Name text={name} /> <Username of={likeName} />
                    {isMuted && <Mark icon="mute" label={t("muted")} />}
                    {isOnline && <span className="visually-hidden">{t("presence.online")}</span>}
                </span>
                {last && (
                    <time dateTime={new Date(last.sent_at_ms).toISOString()}>
                        {texts.short(last.sent_at_ms, Date.now())}
                    </time>
                )}
                <Preview chat={chat} />
                {unread > 0 && (
                    <span className="badge" data-mentions={mentions > 0}>
                        <span aria-hidden="true">
                            {mentions > 0 && "@"}
                            {texts.number(unread)}
                        </span>
                        <span className="visually-hidden">
                            {t("unread", { count: unread })}
                            {mentions > 0 && `, ${t("mentions", { count: mentions })}`}
                        </span>
                    </span>
                )}
            </a>
            <ChatRowMenu chat={chat} name={name} onArchive={leave} />
        </li>
    );
}

/** How the user has a chat, said in words too. */
function Mark({ icon, label }: { icon: IconName; label: string }): ReactNode {
    return (
        <>
            {" "}
            <Icon name={icon} /> <span className="visually-hidden">{label}</span>
        </>
    );
}

/** What stands below the name: who is typing, a draft, or the last message. */
function Preview({ chat }: { chat: ChatState }): ReactNode {
    const t = useText();
    const { texts } = usePage();
    const { users, drafts, user } = useWorkspace();
    useSource(drafts);
    const nameOf = useUserName();
    const systemText = useSystemText();
    const typing = users.typingIn(chat.chat);
    const draft = drafts.get(chat.chat);
    const last = chat.entries.at(-1);
    const body = last?.kind === "text" ? last.body : "";
    const words = useMemo(() => plainText(body), [body]);
    if (typing.length > 0)
        return (
            <span className="preview typing">
                {t("typing", { count: typing.length, names: texts.list(typing.slice(0, 3).map(nameOf)) })}
            </span>
        );
    if (draft.body.trim() !== "") {
        return (
            <span className="preview">
                <Icon name="edit" /> <span className="draft">{t("draft")}</span> <bdi>{draft.body}</bdi>
            </span>
        );
    }
    if (!last) return <span className="preview" />;
    const isText = last.kind === "text";
    const text = !isText ? systemText(last) : words || (last.attachments ? t("sentFile") : t("messageDeleted"));
    const sender = last.sender === user ? t("you") : nameOf(last.sender);
    return (
        <span className="preview">
            {chat.kind !== "direct" && isText && (
                <>
                    <Name text={sender} />:{" "}
                </>
            )}
            <bdi>{text}</bdi>
        </span>
    );
}

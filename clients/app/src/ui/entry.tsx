// One row of a timeline.
import type { socket } from "@posthouse/client";
import { memo, useEffect, useId, useRef, useState, type ReactNode } from "react";
import { href } from "../place";
import type { ChatState } from "../state/chats";
import type { Room } from "../state/room";
import type { Sending } from "../state/sends";
import { copy } from "../shared/clipboard";
import { useSource } from "../shared/source";
import { Markup, plainText } from "../text/markup";
import { callsOfMessage } from "../text/mentions";
import { Attachments } from "./attachments";
import { usePage, useText, useWorkspace } from "./context";
import { LinkPreview } from "./link-preview";
import { Menu } from "./menu";
import { useLikeName, useUserName } from "./names";
import { codeKey, Icon, IconButton, Name, Username } from "./parts";
import { manages, mayWrite } from "./rights";
import { useSystemText } from "./system";

type Message = socket.Message;

/** What a user does with a message. */
export type Action =
    | { do: "reply" | "edit" | "delete" | "thread" | "forward" | "report" }
    | { do: "pin"; remove: boolean }
    | { do: "react"; emoji: string; isOwn: boolean }
    | { do: "jump"; seq: number };
export type Act = (action: Action, message: Message) => void;

/** Offered without a search; a reaction may be any emoji that others have made. */
const QUICK_REACTIONS = ["👍", "❤️", "😂", "🎉", "😮", "😢", "🙏", "👀"];
const MAX_QUOTED_CHARACTERS = 160;

type Props = {
    chat: ChatState;
    room: Room;
    message: Message;
    isFollowUp: boolean;
    isActive: boolean;
    isTabbable: boolean;
    onActive: () => void;
    act: Act;
};

export const Entry = memo(function Entry(props: Props): ReactNode {
    return props.message.kind === "text" ? <TextEntry {...props} /> : <SystemEntry message={props.message} />;
});

function TextEntry({ chat, room, message, isFollowUp, isActive, isTabbable, onActive, act }: Props): ReactNode {
    const t = useText();
    const { texts, config, say } = usePage();
    const workspace = useWorkspace();
    const { sends, users, user } = workspace;
    useSource(sends);
    const nameOf = useUserName();
    const likeName = useLikeName();
    const ref = useRef<HTMLElement>(null);
    const nameId = useId();
    const [isAsked, setIsAsked] = useState(false);
    const isOwn = message.sender === user;
    // On which side a message stands says who of two has written it.
    const isNamed = !isOwn && !isFollowUp && chat.kind !== "direct";
    const isDeleted = message.changes?.deleted_seq !== undefined;
    const isAlive = !isDeleted && message.expired !== true;
    const replies = message.changes?.replies ?? 0;
    const mayDelete = isOwn || manages(chat);
    const isPinned = message.changes?.pinned_seq !== undefined;
    const usernames = (message.mentions ?? []).flatMap((id) => users.get(id)?.username.toLowerCase() ?? []);
    const calls = callsOfMessage(message);
    const isCalled =
        message.mentions_all === true ||
        message.mentions_here === true ||
        message.mentions?.includes(user) === true;
    const copyOut = (text: string) =>
        void copy(text).then((isThere) => say(t(isThere ? "copied" : "notCopied")));
    // Who went here by the keyboard or by a link is here.
    useEffect(() => {
        const row = ref.current;
        if (isActive && !row?.contains(document.activeElement)) row?.focus({ preventScroll: true });
    }, [isActive]);
    return (
        <article
            ref={ref}
            className="entry"
            data-own={isOwn}
            data-active={isActive}
            data-called={!isOwn && isCalled}
            aria-labelledby={nameId}
            aria-posinset={message.seq}
            aria-setsize={-1}
            tabIndex={isTabbable ? 0 : -1}
            onFocus={onActive}
        >
            <header id={nameId} className={isNamed ? undefined : "visually-hidden"}>
                {!isNamed ? (
                    <Name text={isOwn ? t("you") : nameOf(message.sender)} />
                ) : (
                    <a
                        href={href({ chat: chat.chat, panel: "user", user: message.sender })}
                        tabIndex={isActive ? 0 : -1}
                    >
                        <Name text={nameOf(message.sender)} />
                    </a>
                )}{" "}
                {!isOwn && <Username of={likeName(message.sender)} />}
            </header>
            <div className="bubble">
                {message.forwarded && (
                    <p className="forwarded">{t("forwarded", { name: nameOf(message.forwarded.sender) })}</p>
                )}
                {message.target_seq !== undefined && (
                    <Quote
                        room={room}
                        seq={message.target_seq}
                        tabIndex={isActive ? 0 : -1}
                        onClick={() => act({ do: "jump", seq: message.target_seq! }, message)}
                    />
                )}
                {isDeleted && <p className="gone">{t("messageDeleted")}</p>}
                {message.expired === true && !isDeleted && <p className="gone">{t("messageExpired")}</p>}
                {isAlive && (
                    <div className="text" dir="auto">
                        <Markup text={message.body} mentions={[...usernames, ...calls]} />
                    </div>
                )}
                {message.attachments && (
                    <Attachments attachments={message.attachments} tabIndex={isActive ? 0 : -1} />
                )}
                {isAlive && message.body.includes("://") && (
                    <LinkPreview text={message.body} tabIndex={isActive ? 0 : -1} />
                )}
                <footer>
                    {isPinned && (
                        <span>
                            <Icon name="pin" /> <span className="visually-hidden">{t("pins.pinned")}</span>
                        </span>
                    )}
                    {message.expires_at_ms !== undefined && isAlive && (
                        <span title={t("expiry.at", { when: texts.date(message.expires_at_ms) })}>
                            <Icon name="alarm" />{" "}
                            <span className="visually-hidden">
                                {t("expiry.at", { when: texts.date(message.expires_at_ms) })}
                            </span>
                        </span>
                    )}
                    {message.changes?.edited_seq !== undefined && isAlive && <span>{t("edited")}</span>}
                    {sends.isChanging(chat.chat, message.seq) && (
                        <span>
                            <Icon name="clock" /> <span className="visually-hidden">{t("state.changing")}</span>
                        </span>
                    )}
                    <time
                        dateTime={new Date(message.sent_at_ms).toISOString()}
                        title={texts.moment(message.sent_at_ms)}
                    >
                        {texts.time(message.sent_at_ms)}
                    </time>
                    {isOwn && <Ticks chat={chat} seq={message.seq} />}
                </footer>
                {isAlive && (
                    <div className="actions" role="group" aria-label={t("actions")}>
                        <ReactButton
                            tabIndex={isActive ? 0 : -1}
                            onChosen={(emoji) =>
                                act({ do: "react", emoji, isOwn: hasReacted(message, emoji) }, message)
                            }
                        />
                        <IconButton
                            icon="reply"
                            label={t("reply")}
                            tabIndex={isActive ? 0 : -1}
                            onClick={() => act({ do: "reply" }, message)}
                        />
                        <IconButton
                            icon="thread"
                            label={t("openThread")}
                            tabIndex={isActive ? 0 : -1}
                            onClick={() => act({ do: "thread" }, message)}
                        />
                        {isOwn && !message.forwarded && mayWrite(chat) && (
                            <IconButton
                                icon="edit"
                                label={t("edit")}
                                tabIndex={isActive ? 0 : -1}
                                onClick={() => act({ do: "edit" }, message)}
                            />
                        )}
                        {mayDelete && !isAsked && (
                            <IconButton
                                icon="trash"
                                label={t("delete")}
                                tabIndex={isActive ? 0 : -1}
                                onClick={() => setIsAsked(true)}
                            />
                        )}
                        {isAsked && (
                            <button
                                type="button"
                                className="danger"
                                autoFocus
                                onBlur={() => setIsAsked(false)}
                                onClick={() => act({ do: "delete" }, message)}
                            >
                                {t("deleteForAll")}
                            </button>
                        )}
                        <Menu
                            label={t("moreActions")}
                            tabIndex={isActive ? 0 : -1}
                            items={[
                                mayWrite(chat) && {
                                    label: t(isPinned ? "pins.unpin" : "pins.pin"),
                                    icon: "pin",
                                    onChosen: () => act({ do: "pin", remove: isPinned }, message),
                                },
                                {
                                    label: t("forward.title"),
                                    icon: "forward",
                                    onChosen: () => act({ do: "forward" }, message),
                                },
                                message.body !== "" && {
                                    label: t("copyText"),
                                    icon: "file",
                                    onChosen: () => copyOut(message.body),
                                },
                                {
                                    label: t("copyLink"),
                                    icon: "link",
                                    onChosen: () =>
                                        copyOut(
                                            `${location.origin}/${href({ chat: chat.chat, at: message.seq })}`,
                                        ),
                                },
                                !isOwn &&
                                    config.services.includes("moderation") && {
                                        label: t("report.title"),
                                        icon: "flag",
                                        isDanger: true,
                                        onChosen: () => act({ do: "report" }, message),
                                    },
                            ]}
                        />
                    </div>
                )}
            </div>
            {isAlive && <Reactions message={message} act={act} />}
            {replies > 0 && (
                <button
                    type="button"
                    className="link replies"
                    tabIndex={isActive ? 0 : -1}
                    onClick={() => act({ do: "thread" }, message)}
                >
                    <Icon name="thread" /> {t("replies", { count: replies })}
                </button>
            )}
        </article>
    );
}

function hasReacted(message: Message, emoji: string): boolean {
    return message.changes?.reactions?.some((of) => of.emoji === emoji && of.own === true) ?? false;
}

/** What a message replies to. One that is not here is fetched by the jump. */
type QuoteProps = { room: Room; seq: number; tabIndex: number; onClick: () => void };

function Quote({ room, seq, tabIndex, onClick }: QuoteProps): ReactNode {
    const t = useText();
    const nameOf = useUserName();
    const quoted = room.get(seq);
    return (
        <button type="button" className="quote" tabIndex={tabIndex} onClick={onClick}>
            {quoted ? (
                <>
                    <Name text={nameOf(quoted.sender)} />
                    <bdi>
                        {plainText(quoted.body).slice(0, MAX_QUOTED_CHARACTERS) ||
                            (quoted.attachments ? t("sentFile") : t("messageDeleted"))}
                    </bdi>
                </>
            ) : (
                t("earlierMessage")
            )}
        </button>
    );
}

/** How far an own message is: with the messenger, with the other user, or read by them. In a group it is with the messenger. */
function Ticks({ chat, seq }: { chat: ChatState; seq: number }): ReactNode {
    const t = useText();
    const isRead = (chat.other_read_seq ?? 0) >= seq;
    const isDelivered = isRead || (chat.other_delivered_seq ?? 0) >= seq;
    const state = isRead ? "read" : isDelivered ? "delivered" : "sent";
    return (
        <span className="ticks" data-state={state}>
            <Icon name={isDelivered ? "ticks" : "tick"} />
            <span className="visually-hidden">{t(`state.${state}`)}</span>
        </span>
    );
}

function Reactions({ message, act }: { message: Message; act: Act }): ReactNode {
    const t = useText();
    const { texts } = usePage();
    const nameOf = useUserName();
    const reactions = message.changes?.reactions ?? [];
    if (reactions.length === 0) return null;
    return (
        <ul className="reactions" aria-label={t("reactions")}>
            {reactions.map(({ emoji, count, own = false, users = [] }) => (
                <li key={emoji}>
                    <button
                        type="button"
                        aria-pressed={own}
                        aria-label={t("reactedBy", { emoji, count, names: texts.list(users.map(nameOf)) })}
                        title={texts.list(users.map(nameOf))}
                        onClick={() => act({ do: "react", emoji, isOwn: own }, message)}
                    >
                        <span aria-hidden="true">{emoji}</span> {texts.number(count)}
                    </button>
                </li>
            ))}
        </ul>
    );
}

function ReactButton({
    tabIndex,
    onChosen,
}: {
    tabIndex: number;
    onChosen: (emoji: string) => void;
}): ReactNode {
    const t = useText();
    const items = QUICK_REACTIONS.map((emoji) => ({ label: emoji, onChosen: () => onChosen(emoji) }));
    return <Menu label={t("react")} icon="react" isRow tabIndex={tabIndex} items={items} />;
}

/** An entry that is no message: who came, who left, what the group is called. */
function SystemEntry({ message }: { message: Message }): ReactNode {
    return <div className="system">{useSystemText()(message)}</div>;
}

/** A message that is on its way, with the state that is true of it. */
export function SendingEntry({ sending }: { sending: Sending }): ReactNode {
    const t = useText();
    const { sends } = useWorkspace();
    const { key, post, state, code } = sending;
    const isRefused = state === "refused";
    return (
        <article className="entry" data-own="true" data-sending={state} aria-label={t("you")}>
            <div className="bubble">
                {post.kind === "forward" && <p className="forwarded">{t("forward.sending")}</p>}
                {post.kind === "text" && (
                    <div className="text" dir="auto">
                        <Markup text={post.body} />
                        {post.body === "" && <p>{t("sentFile")}</p>}
                    </div>
                )}
                <footer>
                    <span className="ticks" data-state={state}>
                        <Icon name={isRefused ? "failed" : state === "waiting" ? "clock" : "tick"} />
                        <span className="visually-hidden">{t(`state.${state}`)}</span>
                    </span>
                </footer>
            </div>
            {isRefused && (
                <div className="refused" role="alert">
                    <p>
                        {t("state.refused")} {t(codeKey(code))}
                    </p>
                    <button type="button" onClick={() => sends.retry(key)}>
                        {t("tryAgain")}
                    </button>
                    <button type="button" onClick={() => sends.discard(key)}>
                        {t("discard")}
                    </button>
                </div>
            )}
        </article>
    );
}

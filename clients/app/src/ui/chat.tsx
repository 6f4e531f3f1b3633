// One chat: who is in it, what was said, and where the user writes.
import type { socket } from "@posthouse/client";
import { lazy, useCallback, useEffect, useState, type DragEvent, type ReactNode } from "react";
import { go, href, type Place } from "../place";
import type { ChatState } from "../state/chats";
import { useSource } from "../shared/source";
import { ChatAvatar } from "./avatar";
import { ChatMenu } from "./chat-menu";
import { Composer, type Writing } from "./composer";
import { usePage, useText, useWorkspace } from "./context";
import type { Act } from "./entry";
import { Later } from "./later";
import { useChatName, useLikeName, useUserName } from "./names";
import { codeKey, Icon, Name, Username } from "./parts";
import { PinBar } from "./pins";
import { Thread } from "./thread";
import { Timeline } from "./timeline";
import { WritingPlace } from "./writing-place";

const Forward = lazy(() => import("./forward"));
const Report = lazy(() => import("./report"));

export function Chat({ place }: { place: Place & { chat: string } }): ReactNode {
    const t = useText();
    const workspace = useWorkspace();
    const chat = useSource(workspace.chats).get(place.chat);
    const room = useSource(workspace.room(place.chat));
    if (room.state === "gone" || (!chat && workspace.chats.isComplete)) {
        return (
            <main className="centre empty">
                <p role="alert">{t(codeKey(room.code ?? "not_a_member"))}</p>
                <a href="#/">{t("toChats")}</a>
            </main>
        );
    }
    if (!chat) {
        return (
            <main className="centre" aria-busy="true">
                <p>{t("loading")}</p>
            </main>
        );
    }
    return <OpenChat chat={chat} place={place} />;
}

function OpenChat({ chat, place }: { chat: ChatState; place: Place & { chat: string } }): ReactNode {
    const t = useText();
    const { config, say } = usePage();
    const workspace = useWorkspace();
    const name = useChatName()(chat);
    const likeName = useLikeName()(chat.other);
    const [writing, setWriting] = useState<Writing>({ is: "new" });
    const [isDropped, setIsDropped] = useState(false);
    const takesFiles = config.services.includes("media");
    const [dialog, setDialog] = useState<{ is: "forward" | "report"; message: socket.Message }>();
    const id = chat.chat;

    const act: Act = useCallback(
        (action, message) => {
            const { seq, body } = message;
            switch (action.do) {
                case "reply":
                    setWriting({ is: "new" });
                    workspace.drafts.set(id, { ...workspace.drafts.get(id), replyTo: seq });
                    return document.getElementById("composer")?.focus();
                case "edit":
                    setWriting({ is: "edit", seq, body });
                    return document.getElementById("composer")?.focus();
                case "delete":
                    return workspace.send(id, { kind: "delete", seq });
                case "react":
                    return workspace.send(id, {
                        kind: "react",
                        seq,
                        emoji: action.emoji,
                        ...(action.isOwn && { remove: true }),
                    });
                case "thread":
                    return go({ chat: id, thread: message.target_seq ?? seq });
                case "pin":
                    return workspace.send(id, { kind: "pin", seq, ...(action.remove && { remove: true }) });
                case "forward":
                case "report":
                    return setDialog({ is: action.do, message });
                case "jump":
                    return go({ chat: id, at: action.seq });
            }
        },
        [workspace, id],
    );

    // The address of the chat is what stays: another way to the same message is another jump.
    const onArrived = useCallback(
        (isHere: boolean) => {
            go({ chat: id }, true);
            if (!isHere) say(t("error.not_found"));
        },
        [id, say, t],
    );
    // Who opens a chat writes in it. A keyboard on the screen would cover what was written.
    const isJump = place.at !== undefined;
    useEffect(() => {
        if (!isJump && !matchMedia("(pointer: coarse)").matches) document.getElementById("composer")?.focus();
        // With the chat, and not with a jump in it.
    }, []);

    const drag = (isOver: boolean) => (event: DragEvent) => {
        if (!takesFiles || !event.dataTransfer.types.includes("Files")) return;
        event.preventDefault();
        setIsDropped(isOver);
    };
    return (
        <>
            <main
                className="chat"
                data-dropped={isDropped}
                onDragOver={drag(true)}
                onDragLeave={drag(false)}
                onDrop={(event) => {
                    drag(false)(event);
                    if (takesFiles) workspace.files.add(id, event.dataTransfer.files);
                }}
            >
                <header>
                    <a className="icon-button back" href="#/" aria-label={t("toChats")}>
                        <Icon name="back" />
                    </a>
                    <ChatAvatar chat={chat} name={name} />
                    <div className="about">
                        <h1>
                            <a
                                href={href({
                                    ...place,
                                    ...(chat.other === undefined
                                        ? { panel: "about" }
                                        : { panel: "user", user: chat.other }),
                                })}
                            >
                                <Name text={name} /> <Username of={likeName} />
                            </a>
                        </h1>
                        <Status chat={chat} />
                    </div>
                    {chat.kind !== "direct" && (
                        <a
                            className="icon-button"
                            href={href({ ...place, panel: "members" })}
                            aria-label={t("members", { count: chat.member_count })}
                        >
                            <Icon name="members" />
                        </a>
                    )}
                    <ChatMenu chat={chat} place={place} />
                </header>
                <PinBar chat={chat} place={place} />
                <Timeline
                    chat={chat}
                    {...(place.at !== undefined && { at: place.at })}
                    onArrived={onArrived}
                    act={act}
                />
                <WritingPlace chat={chat} place={place}>
                    <Composer chat={chat} writing={writing} onWriting={setWriting} id="composer" />
                </WritingPlace>
            </main>
            {place.thread !== undefined && (
                <Thread key={place.thread} chat={chat} seq={place.thread} act={act} />
            )}
            {dialog?.is === "forward" && (
                <Later title={t("forward.title")} onClose={() => setDialog(undefined)}>
                    <Forward message={dialog.message} onClose={() => setDialog(undefined)} />
                </Later>
            )}
            {dialog?.is === "report" && (
                <Later title={t("report.title")} onClose={() => setDialog(undefined)}>
                    <Report message={dialog.message} onClose={() => setDialog(undefined)} />
                </Later>
            )}
        </>
    );
}

/** How the other user is, who is typing, or how many members there are. */
function Status({ chat }: { chat: ChatState }): ReactNode {
    const t = useText();
    const { texts } = usePage();
    const { users } = useWorkspace();
    const nameOf = useUserName();
    const typing = users.typingIn(chat.chat);
    if (typing.length > 0) {
        const names = typing.slice(0, 3).map(nameOf);
        return (
            <p className="status typing">{t("typing", { count: typing.length, names: texts.list(names) })}</p>
        );
    }
    if (chat.other === undefined)
        return <p className="status">{chat.topic ?? t("members", { count: chat.member_count })}</p>;
    const presence = users.presence(chat.other);
    const status = users.get(chat.other)?.status;
    if (status && (status.expires_at_ms ?? Infinity) > Date.now()) {
        return (
            <p className="status">
                {presence?.state === "online" && `${t("presence.online")} · `}
                <bdi>
                    {status.emoji} {status.text}
                </bdi>
            </p>
        );
    }
    if (presence?.state === "online") return <p className="status">{t("presence.online")}</p>;
    if (presence?.state === "away") return <p className="status">{t("presence.away")}</p>;
    const seen = presence?.state === "offline" ? presence.last_seen_ms : undefined;
    return (
        <p className="status">
            {seen === undefined ? "" : t("presence.seen", { when: texts.ago(seen, Date.now()) })}
        </p>
    );
}

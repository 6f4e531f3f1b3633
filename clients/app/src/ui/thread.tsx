// The replies to one message, beside the chat.
import type { socket } from "@posthouse/client";
import { useEffect, useState, type ReactNode } from "react";
import { go } from "../place";
import type { ChatState } from "../state/chats";
import { useSource } from "../shared/source";
import { Composer } from "./composer";
import { useText, useWorkspace } from "./context";
import { Entry, SendingEntry, type Act } from "./entry";
import { ErrorText, IconButton } from "./parts";
import { WritingPlace } from "./writing-place";

type Message = socket.Message;

export function Thread({ chat, seq, act }: { chat: ChatState; seq: number; act: Act }): ReactNode {
    const t = useText();
    const workspace = useWorkspace();
    const room = useSource(workspace.room(chat.chat));
    const sends = useSource(workspace.sends);
    const { replies, error } = useReplies(chat.chat, seq, room.state === "ready");
    const [active, setActive] = useState<number>();
    const first = room.get(seq);
    // What the room has is newer than a page.
    const known = new Map(replies.map((message) => [message.seq, room.get(message.seq) ?? message]));
    for (const message of room.entries) {
        if (message.kind === "text" && message.target_seq === seq) known.set(message.seq, message);
    }
    const shown = [...(first ? [first] : []), ...[...known.values()].sort((one, other) => one.seq - other.seq)];
    const sendings = sends
        .textsOf(chat.chat)
        .filter(({ post }) => post.kind === "text" && post.replyTo === seq);
    useEffect(() => {
        document.getElementById("thread-composer")?.focus();
        // Who closes it goes on in the chat. A keyboard on the screen would cover it.
        return () => {
            if (!matchMedia("(pointer: coarse)").matches) document.getElementById("composer")?.focus();
        };
    }, []);
    return (
        <aside className="thread" aria-label={t("thread")}>
            <header>
                {/* On a phone it is all that is seen of the page. */}
                <h1>{t("thread")}</h1>
                <IconButton icon="close" label={t("close")} onClick={() => go({ chat: chat.chat })} />
            </header>
            <div className="messages" role="feed" aria-label={t("thread")}>
                {shown.map((message) => (
                    <Entry
                        key={message.seq}
                        chat={chat}
                        room={room}
                        message={message}
                        isFollowUp={false}
                        isActive={message.seq === active}
                        isTabbable
                        onActive={() => setActive(message.seq)}
                        act={act}
                    />
                ))}
                {sendings.map((sending) => (
                    <SendingEntry key={sending.key} sending={sending} />
                ))}
            </div>
            <ErrorText error={error} />
            <WritingPlace chat={chat} place={{ chat: chat.chat, thread: seq }}>
                <Composer
                    chat={chat}
                    id="thread-composer"
                    thread={seq}
                    writing={{ is: "new" }}
                    onWriting={() => undefined}
                />
            </WritingPlace>
        </aside>
    );
}

/** Fetches the replies of before; those that come are in the room. */
function useReplies(chat: string, seq: number, isReady: boolean): { replies: Message[]; error: unknown } {
    const workspace = useWorkspace();
    const [state, setState] = useState<{ replies: Message[]; error: unknown }>({
        replies: [],
        error: undefined,
    });
    useEffect(() => {
        if (!isReady) return;
        let isCurrent = true;
        const fetchAll = async () => {
            const replies: Message[] = [];
            for (let more = true; more && isCurrent;) {
                const page = await workspace.replies(chat, seq, replies.at(-1)?.seq);
                replies.push(...page.messages);
                more = page.more;
            }
            if (isCurrent) setState({ replies, error: undefined });
        };
        fetchAll().catch((error: unknown) => isCurrent && setState({ replies: [], error }));
        return () => void (isCurrent = false);
    }, [workspace, chat, seq, isReady]);
    return state;
}

// Where a message is forwarded to: one chat or several.
import type { socket } from "@posthouse/client";
import { useState, type ReactNode } from "react";
import { go } from "../place";
import { useSource } from "../shared/source";
import { ChatAvatar } from "./avatar";
import { usePage, useText, useWorkspace } from "./context";
import { useChatName } from "./names";
import { Dialog, Field, Name } from "./parts";
import { mayWrite } from "./rights";

/** Chats that are offered at a time; the field narrows them. */
const MAX_OFFERED = 50;

export default function Forward({
    message,
    onClose,
}: {
    message: socket.Message;
    onClose: () => void;
}): ReactNode {
    const t = useText();
    const { say } = usePage();
    const workspace = useWorkspace();
    const { sorted } = useSource(workspace.chats);
    const nameOf = useChatName();
    const [words, setWords] = useState("");
    const [chosen, setChosen] = useState<readonly string[]>([]);
    const sought = words.trim().toLocaleLowerCase();
    const offered = sorted
        .filter((chat) => mayWrite(chat) && nameOf(chat).toLocaleLowerCase().includes(sought))
        .slice(0, MAX_OFFERED);
    const forward = () => {
        for (const chat of chosen)
            workspace.send(chat, { kind: "forward", fromChat: message.chat, fromSeq: message.seq });
        say(t("forward.sent", { count: chosen.length }));
        onClose();
        const only = chosen.length === 1 ? chosen[0] : undefined;
        if (only !== undefined && only !== message.chat) go({ chat: only });
    };
    return (
        <Dialog title={t("forward.title")} onClose={onClose}>
            <form
                onSubmit={(event) => {
                    event.preventDefault();
                    if (chosen.length > 0) forward();
                }}
            >
                <Field
                    label={t("forward.find")}
                    type="search"
                    autoComplete="off"
                    value={words}
                    onChange={(event) => setWords(event.target.value)}
                />
                <ul className="users choices">
                    {offered.map((chat) => (
                        <li key={chat.chat}>
                            <label className="check">
                                <input
                                    type="checkbox"
                                    checked={chosen.includes(chat.chat)}
                                    onChange={({ target }) =>
                                        setChosen(
                                            target.checked
                                                ? [...chosen, chat.chat]
                                                : chosen.filter((id) => id !== chat.chat),
                                        )
                                    }
                                />
                                <ChatAvatar chat={chat} name={nameOf(chat)} />
                                <Name text={nameOf(chat)} />
                            </label>
                        </li>
                    ))}
                </ul>
                <button type="submit" className="primary" disabled={chosen.length === 0}>
                    {t("forward.send", { count: chosen.length })}
                </button>
            </form>
        </Dialog>
    );
}

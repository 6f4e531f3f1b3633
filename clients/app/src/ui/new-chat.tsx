// A new chat: with one user it is a direct one, with several or with a title a group.
import type { chat, search } from "@posthouse/client";
import { useState, type ReactNode } from "react";
import { go, href, usePlace } from "../place";
import { useText, useWorkspace } from "./context";
import { Dialog, ErrorText, Field, useCall } from "./parts";
import { PublicChats } from "./public-chats";
import { UserPicker } from "./user-picker";

export function NewChat({ onClose }: { onClose: () => void }): ReactNode {
    const t = useText();
    const place = usePlace();
    const workspace = useWorkspace();
    const [chosen, setChosen] = useState<search.FoundUser[]>([]);
    const [title, setTitle] = useState("");
    const [kind, setKind] = useState<"group" | "channel">("group");
    const [isPublic, setIsPublic] = useState(false);
    const { isBusy, error, run } = useCall();
    const isGroup = chosen.length > 1 || title.trim() !== "";
    const isComplete = isGroup ? title.trim() !== "" : chosen.length === 1;
    const create = async () => {
        const members = chosen.map(({ user_id }) => user_id);
        const request: chat.CreateChatRequest = isGroup
            ? { kind, title: title.trim(), members, ...(isPublic && { visibility: "public" }) }
            : { kind: "direct", members };
        go({ chat: await workspace.createChat(request) }, true);
    };
    return (
        <Dialog title={t("newChat")} onClose={onClose}>
            <a href={href({ ...place, panel: "contacts" })}>{t("contacts.title")}</a>
            <form
                onSubmit={(event) => {
                    event.preventDefault();
                    if (isComplete) run(create);
                }}
                aria-busy={isBusy}
            >
                <UserPicker chosen={chosen} onChosen={setChosen} except={[workspace.user]} />
                <Field
                    label={t("groupTitle")}
                    hint={t("groupTitleHint")}
                    maxLength={128}
                    value={title}
                    onChange={(event) => setTitle(event.target.value)}
                />
                {isGroup && (
                    <>
                        <label className="check">
                            <input
                                type="checkbox"
                                checked={kind === "channel"}
                                onChange={({ target }) => setKind(target.checked ? "channel" : "group")}
                            />
                            {t("new.channel")}
                        </label>
                        <label className="check">
                            <input
                                type="checkbox"
                                checked={isPublic}
                                onChange={({ target }) => setIsPublic(target.checked)}
                            />
                            {t("new.public")}
                        </label>
                    </>
                )}
                <ErrorText error={error} />
                <button type="submit" className="primary" disabled={!isComplete || isBusy}>
                    {isGroup ? t("createGroup") : t("startChat")}
                </button>
            </form>
            <PublicChats />
        </Dialog>
    );
}

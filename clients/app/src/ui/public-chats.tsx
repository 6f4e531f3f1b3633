// Public groups and channels, which every user of the messenger may join.
import { groups, type chat } from "@posthouse/client";
import { useState, type ReactNode } from "react";
import { go } from "../place";
import { useSource } from "../shared/source";
import { useText, useWorkspace } from "./context";
import { Avatar, ErrorText, Field, Name, useCall } from "./parts";

export function PublicChats(): ReactNode {
    const t = useText();
    const workspace = useWorkspace();
    const chats = useSource(workspace.chats);
    const [found, setFound] = useState<chat.Page_PublicChat & { words: string }>();
    const { isBusy, error, run } = useCall();
    const find = async (words: string, cursor?: string) => {
        const page = await groups.publicChats(workspace.identity, words, cursor);
        const before = cursor === undefined ? [] : (found?.items ?? []);
        setFound({ ...page, items: [...before, ...page.items], words });
    };
    const enter = async (id: string) => {
        if (!chats.get(id)) await workspace.join(id);
        go({ chat: id }, true);
    };
    return (
        <section>
            <h3>{t("public.title")}</h3>
            <form
                role="search"
                aria-label={t("public.title")}
                onSubmit={(event) => {
                    event.preventDefault();
                    const words = String(new FormData(event.currentTarget).get("words")).trim();
                    run(() => find(words));
                }}
            >
                <Field label={t("public.words")} name="words" type="search" maxLength={128} />
                <button type="submit" disabled={isBusy}>
                    {t("public.find")}
                </button>
            </form>
            <ErrorText error={error} />
            <p className="visually-hidden" role="status">
                {found && t("public.found", { count: found.items.length })}
            </p>
            {found?.items.length === 0 && <p className="hint">{t("public.found", { count: 0 })}</p>}
            <ul className="users">
                {found?.items.map(({ chat_id, title, topic, member_count }) => (
                    <li key={chat_id}>
                        <Avatar id={chat_id} name={title} />
                        <span className="words">
                            <Name text={title} />
                            <small className="hint">
                                {t("members", { count: member_count })}
                                {topic && (
                                    <>
                                        {" · "}
                                        <bdi>{topic}</bdi>
                                    </>
                                )}
                            </small>
                        </span>
                        <button
                            type="button"
                            className="action"
                            disabled={isBusy}
                            aria-label={t(chats.get(chat_id) ? "public.openIt" : "public.joinIt", {
                                name: title,
                            })}
                            onClick={() => run(() => enter(chat_id))}
                        >
                            {t(chats.get(chat_id) ? "join.open" : "join.join")}
                        </button>
                    </li>
                ))}
            </ul>
            {found?.next_cursor && (
                <button
                    type="button"
                    disabled={isBusy}
                    onClick={() => run(() => find(found.words, found.next_cursor ?? undefined))}
                >
                    {t("more")}
                </button>
            )}
        </section>
    );
}

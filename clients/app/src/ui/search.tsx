// Search in all messages that the user reads, and in names of chats and users, with a way to each.
import type { search } from "@posthouse/client";
import { useRef, useState, type FormEvent, type ReactNode } from "react";
import { go, href } from "../place";
import { useSource } from "../shared/source";
import type { Named } from "../state/workspace";
import { UserAvatar } from "./avatar";
import { usePage, useText, useWorkspace } from "./context";
import { useChatName, useUserName } from "./names";
import { Dialog, ErrorText, Field, Name, useCall } from "./parts";

type Found = {
    query: string;
    items: search.FoundMessage[];
    next: string | null | undefined;
    isComplete: boolean;
    named: Named;
};

export function Search({ onClose }: { onClose: () => void }): ReactNode {
    const t = useText();
    const { config, texts, say } = usePage();
    const workspace = useWorkspace();
    const { chats } = workspace;
    useSource(chats);
    const nameOf = useUserName();
    const chatName = useChatName();
    const [found, setFound] = useState<Found>();
    const { isBusy, error, run } = useCall();
    const asked = useRef("");

    const find = async (query: string, before?: Found) => {
        asked.current = query;
        const [page, named] = await Promise.all([
            workspace.searchMessages(query, before?.next ?? undefined),
            before?.named ?? workspace.searchNames(query),
        ]);
        if (asked.current !== query) return;
        const items = [...(before?.items ?? []), ...page.items];
        setFound({ query, items, next: page.next_cursor, isComplete: page.complete, named });
        say(t("foundMessages", { count: items.length }));
    };
    const talk = async (user: string) =>
        go({ chat: await workspace.createChat({ kind: "direct", members: [user] }) }, true);
    const submit = (event: FormEvent<HTMLFormElement>) => {
        event.preventDefault();
        const query = String(new FormData(event.currentTarget).get("q") ?? "").trim();
        if (query !== "") run(() => find(query));
    };
    if (!config.services.includes("search")) {
        return (
            <Dialog title={t("search")} onClose={onClose}>
                <p>{t("noSearch")}</p>
            </Dialog>
        );
    }
    return (
        <Dialog title={t("search")} onClose={onClose}>
            <form role="search" onSubmit={submit} aria-busy={isBusy}>
                <Field
                    label={t("searchFor")}
                    name="q"
                    type="search"
                    maxLength={256}
                    autoFocus
                    hint={t("searchHint")}
                />
                <button type="submit" className="primary" disabled={isBusy}>
                    {t("search")}
                </button>
            </form>
            <ErrorText error={error} />
            {found && found.named.chats.length > 0 && (
                <section>
                    <h3>{t("chats")}</h3>
                    <ul className="found">
                        {found.named.chats.map(({ chat_id, name }) => (
                            <li key={chat_id}>
                                <a href={href({ chat: chat_id })}>
                                    <Name text={name} />
                                </a>
                            </li>
                        ))}
                    </ul>
                </section>
            )}
            {found && found.named.users.length > 0 && (
                <section>
                    <h3>{t("users")}</h3>
                    <ul className="users">
                        {found.named.users.map(({ user_id, username, display_name }) => (
                            <li key={user_id}>
                                <button
                                    type="button"
                                    disabled={isBusy}
                                    onClick={() => run(() => talk(user_id))}
                                >
                                    <UserAvatar user={user_id} name={display_name} />
                                    <Name text={display_name} /> <span className="username">@{username}</span>
                                </button>
                            </li>
                        ))}
                    </ul>
                </section>
            )}
            {found && !found.isComplete && <p className="hint">{t("searchIncomplete")}</p>}
            {found && found.items.length === 0 && !found.next && <p>{t("foundMessages", { count: 0 })}</p>}
            <ul className="found">
                {found?.items.map((message) => {
                    const chat = chats.get(message.chat_id);
                    return (
                        <li key={`${message.chat_id}/${message.seq}`}>
                            <a href={href({ chat: message.chat_id, at: message.seq })}>
                                <span className="title">
                                    <Name text={nameOf(message.sender)} />
                                    {chat && chat.kind !== "direct" && (
                                        <>
                                            {" · "}
                                            <Name text={chatName(chat)} />
                                        </>
                                    )}
                                </span>
                                <time dateTime={new Date(message.sent_at_ms).toISOString()}>
                                    {texts.short(message.sent_at_ms, Date.now())}
                                </time>
                                <span className="excerpt" dir="auto">
                                    <Parts parts={message.excerpt} />
                                    {message.files?.map((file) => (
                                        <span key={file.file} className="file">
                                            <Parts parts={file.name} />
                                        </span>
                                    ))}
                                </span>
                            </a>
                        </li>
                    );
                })}
            </ul>
            {found?.next && (
                <button type="button" disabled={isBusy} onClick={() => run(() => find(found.query, found))}>
                    {t("more")}
                </button>
            )}
        </Dialog>
    );
}

function Parts({ parts }: { parts: readonly search.ExcerptPart[] }): ReactNode {
    return parts.map(({ text, found }, at) => (found ? <mark key={at}>{text}</mark> : text));
}

// Search in all messages that the user reads, with a way to each.
import type { search } from "@posthouse/client";
import { useRef, useState, type FormEvent, type ReactNode } from "react";
import { href } from "../place";
import { useSource } from "../state/source";
import { usePage, useText, useWorkspace } from "./context";
import { useChatName, useUserName } from "./names";
import { Dialog, ErrorText, Field, Name, useCall } from "./parts";

type Found = {
    query: string;
    items: search.FoundMessage[];
    next: string | null | undefined;
    isComplete: boolean;
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
        const page = await workspace.searchMessages(query, before?.next ?? undefined);
        if (asked.current !== query) return;
        const items = [...(before?.items ?? []), ...page.items];
        setFound({ query, items, next: page.next_cursor, isComplete: page.complete });
        say(t("foundMessages", { count: items.length }));
    };
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

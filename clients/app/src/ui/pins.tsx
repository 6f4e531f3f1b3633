// The pinned messages of a chat: the last one below its name, and all of them in a dialog.
import { useEffect, type ReactNode } from "react";
import { go, href, type Place } from "../place";
import type { ChatState } from "../state/chats";
import { useSource } from "../shared/source";
import { plainText } from "../text/markup";
import { usePage, useText, useWorkspace } from "./context";
import { useUserName } from "./names";
import { Dialog, Icon, IconButton, Name } from "./parts";
import { mayWrite } from "./rights";

const MAX_SHOWN_CHARACTERS = 120;

export function PinBar({ chat, place }: { chat: ChatState; place: Place }): ReactNode {
    const t = useText();
    const { pins } = useWorkspace();
    const pinned = useSource(pins).of(chat.chat);
    useEffect(() => void pins.open(chat.chat), [pins, chat.chat]);
    const last = pinned[0];
    if (!last) return null;
    const text = plainText(last.body).slice(0, MAX_SHOWN_CHARACTERS) || t("sentFile");
    return (
        <section className="pin-bar" aria-label={t("pins.title")}>
            <Icon name="pin" />
            <a href={href({ chat: chat.chat, at: last.seq })}>
                <span className="visually-hidden">{t("pins.last")}</span> <bdi>{text}</bdi>
            </a>
            {pinned.length > 1 && (
                <a className="more" href={href({ ...place, panel: "pins" })}>
                    {t("pins.all", { count: pinned.length })}
                </a>
            )}
        </section>
    );
}

export function PinsPanel({ chat: id, onClose }: { chat: string; onClose: () => void }): ReactNode {
    const t = useText();
    const { texts } = usePage();
    const workspace = useWorkspace();
    const pinned = useSource(workspace.pins).of(id);
    const chat = useSource(workspace.chats).get(id);
    const nameOf = useUserName();
    useEffect(() => void workspace.pins.open(id), [workspace, id]);
    return (
        <Dialog title={t("pins.title")} onClose={onClose}>
            {pinned.length === 0 && <p className="hint">{t("pins.none")}</p>}
            <ul className="found">
                {pinned.map((message) => (
                    <li key={message.seq} className="with-action">
                        <a
                            href={href({ chat: id, at: message.seq })}
                            onClick={(event) => {
                                event.preventDefault();
                                go({ chat: id, at: message.seq }, true);
                            }}
                        >
                            <Name text={nameOf(message.sender)} />
                            <time dateTime={new Date(message.sent_at_ms).toISOString()}>
                                {texts.short(message.sent_at_ms, Date.now())}
                            </time>
                            <span className="excerpt" dir="auto">
                                {plainText(message.body).slice(0, MAX_SHOWN_CHARACTERS) || t("sentFile")}
                            </span>
                        </a>
                        {chat && mayWrite(chat) && (
                            <IconButton
                                icon="close"
                                label={t("pins.remove", { name: nameOf(message.sender) })}
                                onClick={() =>
                                    workspace.send(id, { kind: "pin", seq: message.seq, remove: true })
                                }
                            />
                        )}
                    </li>
                ))}
            </ul>
        </Dialog>
    );
}

// Where a message is written, or why none can be.
import type { moderation } from "@posthouse/client";
import { useEffect, useState, type ReactNode } from "react";
import { href, type Place } from "../place";
import type { ChatState } from "../state/chats";
import { useSource } from "../shared/source";
import { usePage, useText, useWorkspace } from "./context";
import { useUserName } from "./names";
import { ErrorText, useCall } from "./parts";
import { mayWrite } from "./rights";

/** A longer wait is beyond what a timer of a browser counts. */
const MAX_TIMER_MS = 2 ** 31 - 1;

type Props = { chat: ChatState; place: Place; children: ReactNode };

export function WritingPlace({ chat, place, children }: Props): ReactNode {
    const t = useText();
    const { texts } = usePage();
    const { contacts, standing } = useWorkspace();
    useSource(contacts);
    useSource(standing);
    const mute = useMute(chat.chat);
    if (mute) return <Muted mute={mute} place={place} />;
    if (!mayWrite(chat)) return <p className="hint read-only">{t("readOnly")}</p>;
    if (chat.other !== undefined && contacts.isBlocked(chat.other)) return <Blocked user={chat.other} />;
    if (chat.kind === "direct" && chat.member_count < 2) return <Left chat={chat} />;
    const { slow_mode_seconds: slow = 0, message_ttl_seconds: ttl = 0, own } = chat;
    const isSlow = slow > 0 && chat.role === "member";
    return (
        <div>
            {(isSlow || ttl > 0 || (own.scheduled ?? 0) > 0 || (own.scheduled_refused ?? 0) > 0) && (
                <p className="hint rules">
                    {isSlow && <span>{t("slowMode.hint", { span: texts.span(slow) })}</span>}
                    {ttl > 0 && <span>{t("expiry.hint", { span: texts.span(ttl) })}</span>}
                    {(own.scheduled ?? 0) > 0 && (
                        <a href={href({ ...place, panel: "scheduled" })}>
                            {t("scheduled.count", { count: own.scheduled ?? 0 })}
                        </a>
                    )}
                    {(own.scheduled_refused ?? 0) > 0 && (
                        <a className="refused" href={href({ ...place, panel: "scheduled" })}>
                            {t("scheduled.refused", { count: own.scheduled_refused ?? 0 })}
                        </a>
                    )}
                </p>
            )}
            {children}
        </div>
    );
}

/** Returns the mute that holds in a chat, until it is over. */
function useMute(chat: string): moderation.Sanction | undefined {
    const { standing } = useWorkspace();
    const [, setTurn] = useState(0);
    const mute = standing.muteIn(chat, Date.now());
    const untilMs = mute?.until_ms;
    useEffect(() => {
        if (untilMs == null) return;
        const timer = setTimeout(
            () => setTurn((turn) => turn + 1),
            Math.min(MAX_TIMER_MS, Math.max(0, untilMs - Date.now()) + 1),
        );
        return () => clearTimeout(timer);
    }, [untilMs]);
    return mute;
}

function Muted({ mute, place }: { mute: moderation.Sanction; place: Place }): ReactNode {
    const t = useText();
    const { texts } = usePage();
    const { until_ms, note } = mute;
    const until = until_ms == null ? undefined : texts.date(until_ms);
    return (
        <div className="read-only" role="status">
            <p>
                {mute.chat != null ? t("sanction.muteHere") : t("sanction.muteEverywhere")}{" "}
                {until === undefined ? t("sanction.forGood") : t("sanction.until", { when: until })}
            </p>
            {note !== "" && <p className="hint">{t("sanction.note", { note })}</p>}
            <a href={href({ ...place, panel: "settings" })}>{t("sanction.appealInSettings")}</a>
        </div>
    );
}

function Blocked({ user }: { user: string }): ReactNode {
    const t = useText();
    const { contacts } = useWorkspace();
    const nameOf = useUserName();
    const { isBusy, error, run } = useCall();
    return (
        <div className="read-only">
            <p>{t("block.here", { name: nameOf(user) })}</p>
            <ErrorText error={error} />
            <button type="button" disabled={isBusy} onClick={() => run(() => contacts.unblock(user))}>
                {t("block.lift")}
            </button>
        </div>
    );
}

/** The other user has left: a message would reach no one until the chat is opened again. */
function Left({ chat }: { chat: ChatState }): ReactNode {
    const t = useText();
    const workspace = useWorkspace();
    const nameOf = useUserName();
    const { isBusy, error, run } = useCall();
    const { other } = chat;
    if (other === undefined) return null;
    const open = async () => {
        await workspace.createChat({ kind: "direct", members: [other] });
    };
    return (
        <div className="read-only">
            <p>{t("direct.left", { name: nameOf(other) })}</p>
            <ErrorText error={error} />
            <button type="button" disabled={isBusy} onClick={() => run(open)}>
                {t("direct.openAgain")}
            </button>
        </div>
    );
}

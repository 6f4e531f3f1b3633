// What a user does with a chat as a whole.
import { useState, type ReactNode } from "react";
import { go, type Place } from "../place";
import type { ChatState } from "../state/chats";
import { useSource } from "../shared/source";
import { usePage, useText, useWorkspace } from "./context";
import { Menu, type MenuItem } from "./menu";
import { useChatName, useUserName } from "./names";
import { Dialog, errorOf } from "./parts";
import { manages } from "./rights";

const HOUR_MS = 3_600_000;
/** For how long a chat is muted. */
const MUTES = [1, 8, 7 * 24] as const;
/** Later than any clock here: until the user ends it. */
const FOR_GOOD_MS = Date.UTC(9999, 0);

/** What is done with a chat in its own head, where its panels are, too. */
export function ChatMenu({ chat, place }: { chat: ChatState; place: Place }): ReactNode {
    const t = useText();
    const { contacts } = useWorkspace();
    useSource(contacts);
    const nameOf = useUserName();
    const { own, muting, run } = useOwnActions(chat);
    const { other } = chat;
    const panel = (name: NonNullable<Place["panel"]>) => () => go({ ...place, panel: name });
    const items: Array<MenuItem | false | undefined> = [
        ...own,
        { label: t("pins.title"), icon: "pin", onChosen: panel("pins") },
        { label: t("scheduled.title"), icon: "clock", onChosen: panel("scheduled") },
        { label: t("about.title"), icon: "settings", onChosen: panel("about") },
        manages(chat) && { label: t("invites.title"), icon: "link", onChosen: panel("invites") },
        other !== undefined && {
            label: t(contacts.isBlocked(other) ? "block.lift" : "block.add"),
            icon: "block",
            isDanger: !contacts.isBlocked(other),
            onChosen: () =>
                contacts.isBlocked(other)
                    ? run(contacts.unblock(other), t("block.lifted", { name: nameOf(other) }))
                    : run(contacts.block(other), t("block.added", { name: nameOf(other) })),
        },
    ];
    return (
        <>
            <Menu label={t("chatActions")} items={items} />
            {muting}
        </>
    );
}

type RowMenuProps = { chat: ChatState; name: string; onArchive: () => void };

/** What is done with a chat in its row of the list. `onArchive` is called before the row may go. */
export function ChatRowMenu({ chat, name, onArchive }: RowMenuProps): ReactNode {
    const t = useText();
    const { own, muting } = useOwnActions(chat, onArchive);
    return (
        <>
            <Menu label={t("chatActions.of", { name })} items={own} />
            {muting}
        </>
    );
}

/** Returns how the user may have a chat, with the dialog that one of these opens, and `run`, which says what came of a call. */
function useOwnActions(
    chat: ChatState,
    onArchive: () => void = () => undefined,
): { own: MenuItem[]; muting: ReactNode; run: (call: Promise<void>, done: string) => void } {
    const t = useText();
    const { say } = usePage();
    const workspace = useWorkspace();
    const [isMuting, setIsMuting] = useState(false);
    const { favourite, archived, muted_until_ms = 0 } = chat.own;
    /** It comes back as an event, and what is refused is said. */
    const run = (call: Promise<void>, done: string) =>
        void call.then(
            () => say(done),
            (error: unknown) => say(t(errorOf(error).key)),
        );
    const change = (request: Parameters<typeof workspace.updateOwn>[1], done: string) =>
        run(workspace.updateOwn(chat.chat, request), done);
    const own: MenuItem[] = [
        muted_until_ms > Date.now()
            ? { label: t("unmute"), icon: "mute", onChosen: () => change({ muted_until_ms: 0 }, t("unmuted")) }
            : { label: t("mute"), icon: "mute", onChosen: () => setIsMuting(true) },
        {
            label: t(favourite ? "favourite.remove" : "favourite.add"),
            icon: "star",
            onChosen: () => change({ favourite: !favourite }, t("saved")),
        },
        {
            label: t(archived ? "archive.remove" : "archive.add"),
            icon: "archive",
            onChosen: () => {
                onArchive();
                change({ archived: !archived }, t("saved"));
            },
        },
    ];
    const muting = isMuting && <Muting chat={chat} onClose={() => setIsMuting(false)} onChosen={change} />;
    return { own, muting, run };
}

type MutingProps = {
    chat: ChatState;
    onClose: () => void;
    onChosen: (request: { muted_until_ms: number }, done: string) => void;
};

/** For how long. */
function Muting({ chat, onClose, onChosen }: MutingProps): ReactNode {
    const t = useText();
    const { texts } = usePage();
    const name = useChatName()(chat);
    const choose = (untilMs: number) => {
        onChosen({ muted_until_ms: untilMs }, t("muted"));
        onClose();
    };
    return (
        <Dialog title={t("mute.title", { name })} onClose={onClose}>
            <div className="choices">
                {MUTES.map((hours) => (
                    <button key={hours} type="button" onClick={() => choose(Date.now() + hours * HOUR_MS)}>
                        {texts.span(hours * 3_600)}
                    </button>
                ))}
                <button type="button" onClick={() => choose(FOR_GOOD_MS)}>
                    {t("mute.forGood")}
                </button>
            </div>
        </Dialog>
    );
}

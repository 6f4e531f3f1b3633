// The messenger of a signed-in user: the list, the open chat, and what opens above them.
import { lazy, Suspense, useEffect, type ReactNode } from "react";
import { go, usePlace, type Place } from "../place";
import { useSource } from "../state/source";
import { Chat } from "./chat";
import { ChatListPanel } from "./chat-list";
import { closingKey } from "./closings";
import { usePage, useText, useWorkspace } from "./context";
import { Members } from "./members";
import { NewChat } from "./new-chat";
import { useNotifications } from "./notifications";
import { codeKey } from "./parts";
import { PinsPanel } from "./pins";
import { Search } from "./search";
import { Settings } from "./settings";

// Screens that are seldom seen come with their first use.
const AboutChat = lazy(() => import("./about-chat"));
const Invites = lazy(() => import("./invites"));
const Join = lazy(() => import("./join"));
const ContactsPanel = lazy(() => import("./contacts"));
const Scheduled = lazy(() => import("./scheduled"));
const UserPanel = lazy(() => import("./user-panel"));

export function Messenger({ onSignOut }: { onSignOut: () => Promise<void> }): ReactNode {
    const t = useText();
    const place = usePlace();
    const workspace = useWorkspace();
    const { config, say } = usePage();
    const { unread } = useSource(workspace.chats);
    const { panel, user, invite: _, ...base } = place;
    const closePanel = () => go(base);
    useEffect(() => workspace.attend(place.chat), [workspace, place.chat]);
    useEffect(() => {
        document.title = unread.unread > 0 ? `(${unread.unread}) ${config.name}` : config.name;
    }, [unread.unread, config.name]);
    useEffect(() => {
        workspace.sends.onRefusedChange = ({ kind, code }) =>
            say(t("changeRefused", { what: t(`change.${kind}`), why: t(codeKey(code)) }));
    });
    usePresence();
    useNotifications();
    return (
        <div className="messenger" data-open={place.chat === undefined ? "list" : "chat"}>
            <a className="skip" href="#composer" onClick={skipTo}>
                {t("skipToComposer")}
            </a>
            <ConnectionBar />
            <ChatListPanel place={place} />
            {place.chat === undefined ? (
                <main className="centre empty">
                    <p>{t("chooseChat")}</p>
                </main>
            ) : (
                <Chat key={place.chat} place={place as Place & { chat: string }} />
            )}
            {panel === "settings" && <Settings onClose={closePanel} onSignOut={onSignOut} />}
            {panel === "new" && <NewChat onClose={closePanel} />}
            {panel === "search" && <Search onClose={closePanel} />}
            {panel === "members" && place.chat !== undefined && (
                <Members chat={place.chat} onClose={closePanel} />
            )}
            {panel === "pins" && place.chat !== undefined && (
                <PinsPanel chat={place.chat} onClose={closePanel} />
            )}
            <Suspense>
                {place.invite !== undefined && <Join code={place.invite} />}
                {panel === "contacts" && <ContactsPanel place={base} onClose={closePanel} />}
                {panel === "user" && user !== undefined && <UserPanel user={user} onClose={closePanel} />}
                {panel === "about" && place.chat !== undefined && (
                    <AboutChat chat={place.chat} onClose={closePanel} />
                )}
                {panel === "invites" && place.chat !== undefined && (
                    <Invites chat={place.chat} onClose={closePanel} />
                )}
                {panel === "scheduled" && place.chat !== undefined && (
                    <Scheduled chat={place.chat} onClose={closePanel} />
                )}
            </Suspense>
        </div>
    );
}

/** The fragment of the address is the place: a jump within the page leaves it as it is. */
function skipTo(event: React.MouseEvent): void {
    event.preventDefault();
    document.getElementById("composer")?.focus();
}

/** Says that there is no connection; what is sent meanwhile waits. */
function ConnectionBar(): ReactNode {
    const t = useText();
    const { state, closeCode } = useSource(useWorkspace().connection);
    if (state !== "offline") return null;
    const why = closingKey(closeCode);
    return (
        <div className="connection">
            {t("connection.offline")} {why && <small>{t(why)}</small>}
        </div>
    );
}

/** The user is away while the page is not seen. */
function usePresence(): void {
    const workspace = useWorkspace();
    useEffect(() => {
        const say = () => workspace.activity(document.visibilityState === "visible" ? "online" : "away");
        document.addEventListener("visibilitychange", say);
        say();
        return () => document.removeEventListener("visibilitychange", say);
    }, [workspace]);
}

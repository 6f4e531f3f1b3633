// The messenger of a signed-in user: the list, the open chat, and what opens above them.
import { lazy, Suspense, useEffect, useState, type ReactNode } from "react";
import { go, usePlace, type AdminScreen, type Place } from "../place";
import { useSource } from "../shared/source";
import { Chat } from "./chat";
import { ChatListPanel } from "./chat-list";
import { closingKey } from "./closings";
import { usePage, useText, useWorkspace } from "./context";
import { Later } from "./later";
import { Members } from "./members";
import { NewChat } from "./new-chat";
import { useNotifications } from "./notifications";
import { Boundary, codeKey, ErrorText } from "./parts";
import { PinsPanel } from "./pins";
import { Search } from "./search";
import { Settings } from "./settings";

/** The console of moderators: others never fetch it. */
const Console = lazy(() => import("./admin/console"));
// Screens that are seldom seen come with their first use.
const AboutChat = lazy(() => import("./about-chat"));
const ContactsPanel = lazy(() => import("./contacts"));
const Invites = lazy(() => import("./invites"));
const Join = lazy(() => import("./join"));
const NotificationSettings = lazy(() => import("./notification-settings"));
const Scheduled = lazy(() => import("./scheduled"));
const UserPanel = lazy(() => import("./user-panel"));

/** A panel is of one chat, one user or one link: of another one it is recreated, with nothing of the former in it. */
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
    useWakes();
    useNotifications();
    return (
        <div
            className="messenger"
            data-open={place.chat === undefined && place.admin === undefined ? "list" : "chat"}
        >
            {place.admin === undefined && place.chat !== undefined && (
                <a className="skip" href="#composer" onClick={skipTo}>
                    {t("skipToComposer")}
                </a>
            )}
            <ConnectionBar />
            <ChatListPanel place={place} />
            {place.admin !== undefined ? (
                <Administration place={place as Place & { admin: AdminScreen }} />
            ) : place.chat === undefined ? (
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
                <Members key={place.chat} chat={place.chat} onClose={closePanel} />
            )}
            {panel === "pins" && place.chat !== undefined && (
                <PinsPanel chat={place.chat} onClose={closePanel} />
            )}
            {panel === "notifications" && (
                <Later title={t("notices.title")} onClose={closePanel}>
                    <NotificationSettings onClose={closePanel} />
                </Later>
            )}
            {place.invite !== undefined && (
                <Later title={t("join.title")} onClose={closePanel}>
                    <Join key={place.invite} code={place.invite} />
                </Later>
            )}
            {panel === "contacts" && (
                <Later title={t("contacts.title")} onClose={closePanel}>
                    <ContactsPanel place={base} onClose={closePanel} />
                </Later>
            )}
            {panel === "user" && user !== undefined && (
                <Later title={t("user.title")} onClose={closePanel}>
                    <UserPanel key={user} user={user} onClose={closePanel} />
                </Later>
            )}
            {panel === "about" && place.chat !== undefined && (
                <Later title={t("about.title")} onClose={closePanel}>
                    <AboutChat key={place.chat} chat={place.chat} onClose={closePanel} />
                </Later>
            )}
            {panel === "invites" && place.chat !== undefined && (
                <Later title={t("invites.title")} onClose={closePanel}>
                    <Invites key={place.chat} chat={place.chat} onClose={closePanel} />
                </Later>
            )}
            {panel === "scheduled" && place.chat !== undefined && (
                <Later title={t("scheduled.title")} onClose={closePanel}>
                    <Scheduled key={place.chat} chat={place.chat} onClose={closePanel} />
                </Later>
            )}
        </div>
    );
}

/** The fragment of the address is the place: a jump within the page leaves it as it is. */
function skipTo(event: React.MouseEvent): void {
    event.preventDefault();
    // A thread may cover the chat, whose field takes no focus then.
    for (const id of ["thread-composer", "composer"]) document.getElementById(id)?.focus();
}

/** A first connection that takes longer is waited for: what is shown until then is of an earlier page. */
const SOON_MS = 1_000;

/** Says that there is no connection; what is sent meanwhile waits. */
function ConnectionBar(): ReactNode {
    const t = useText();
    const { state, closeCode } = useSource(useWorkspace().connection);
    const [isLate, setIsLate] = useState(false);
    useEffect(() => {
        const timer = setTimeout(() => setIsLate(true), SOON_MS);
        return () => clearTimeout(timer);
    }, []);
    if (state === "connecting" && isLate) return <div className="connection">{t("connection.connecting")}</div>;
    if (state !== "offline") return null;
    const why = closingKey(closeCode);
    return (
        <div className="connection">
            {t("connection.offline")} {why && <small>{t(why)}</small>}
        </div>
    );
}

/** The console, for whom the messenger names a moderator, and a plain word for everyone else. */
function Administration({ place }: { place: Place & { admin: AdminScreen } }): ReactNode {
    const t = useText();
    const { config } = usePage();
    const { standing } = useWorkspace();
    const { moderates, error } = useSource(standing);
    const isKnown = !config.services.includes("moderation") || moderates === false;
    if (moderates === true) {
        return (
            <Boundary fallback={<Told text={t("error.fault")} />}>
                <Suspense fallback={<Told text={t("loading")} />}>
                    <Console place={place} />
                </Suspense>
            </Boundary>
        );
    }
    if (isKnown) return <Told text={t("notModerator")} isAlert />;
    return (
        <main className="centre" aria-busy={error === undefined}>
            {error === undefined ? <p>{t("loading")}</p> : <ErrorText error={error} />}
            {error !== undefined && (
                <button type="button" onClick={() => void standing.load()}>
                    {t("tryAgain")}
                </button>
            )}
        </main>
    );
}

function Told({ text, isAlert = false }: { text: string; isAlert?: boolean }): ReactNode {
    const t = useText();
    return (
        <main className="centre">
            <p role={isAlert ? "alert" : undefined}>{text}</p>
            <button type="button" onClick={() => go({})}>
                {t("toChats")}
            </button>
        </main>
    );
}

/** The user is away while the page is not seen. */
function usePresence(): void {
    const workspace = useWorkspace();
    useEffect(() => {
        const say = () => {
            const isSeen = document.visibilityState === "visible";
            workspace.activity(isSeen ? "online" : "away");
            // A page that is not seen may be gone without a word.
            if (!isSeen) workspace.rest();
        };
        document.addEventListener("visibilitychange", say);
        say();
        return () => document.removeEventListener("visibilitychange", say);
    }, [workspace]);
}

/**
 * Has the connection looked after when the network is another one, and when the user comes back, maybe to a machine that slept. A page that the browser
 * had put away is loaded again in any case.
 */
function useWakes(): void {
    const workspace = useWorkspace();
    useEffect(() => {
        const wake = () => workspace.wake();
        const look = () => document.visibilityState === "visible" && wake();
        const over = new AbortController();
        const { signal } = over;
        window.addEventListener("online", wake, { signal });
        // A messenger on this machine is there without a network, and others are not: the connection shows which.
        window.addEventListener("offline", wake, { signal });
        document.addEventListener("visibilitychange", look, { signal });
        return () => over.abort();
    }, [workspace]);
}

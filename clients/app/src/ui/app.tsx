// The page as a whole: its language and theme, and whether a user is signed in.
import { CallError, type Identity } from "@posthouse/client";
import { useCallback, useEffect, useRef, useState, type ReactNode } from "react";
import { paint } from "../branding";
import type { Preferences } from "../preferences";
import { mailLink, type SignIn } from "../sign-in";
import { useSource } from "../shared/source";
import { Workspace } from "../state/workspace";
import { bestLanguage, Texts, type Key } from "../text/texts";
import { closingKey } from "./closings";
import { PageProvider, usePage, useText, WorkspaceProvider } from "./context";
import { Farewell } from "./farewell";
import { MailLinkScreen } from "./mail-link";
import { Messenger } from "./messenger";
import { Boundary, ErrorText } from "./parts";
import { SignInScreen } from "./sign-in-screen";
import { Updates } from "./updates";

type Props = { signIn: SignIn; preferences: Preferences; firstTexts: Texts };

export function App({ signIn, preferences, firstTexts }: Props): ReactNode {
    const { language, theme } = useSource(preferences);
    const [texts, setTexts] = useState(firstTexts);
    useEffect(() => {
        let isCurrent = true;
        void Texts.load(bestLanguage(language, navigator.languages)).then((loaded) => {
            if (isCurrent) setTexts((before) => (before.language === loaded.language ? before : loaded));
        });
        return () => void (isCurrent = false);
    }, [language]);
    useEffect(() => {
        document.documentElement.lang = texts.language;
        document.documentElement.dir = texts.direction;
    }, [texts]);
    useEffect(() => {
        document.documentElement.dataset["theme"] = theme;
    }, [theme]);
    useEffect(() => {
        document.title = signIn.config.name;
        paint(signIn.config.color, document.documentElement.style);
    }, [signIn]);
    return (
        <PageProvider config={signIn.config} texts={texts} preferences={preferences}>
            <Boundary fallback={<Failed error={undefined} />}>
                <Door signIn={signIn} />
            </Boundary>
            <Updates />
        </PageProvider>
    );
}

/** Does first what a link in a mail wants. */
function Door({ signIn }: { signIn: SignIn }): ReactNode {
    const [link, setLink] = useState(mailLink);
    useEffect(() => {
        // In an open page the address changes without a load, and a link begins with one.
        const look = () => mailLink() && location.reload();
        window.addEventListener("hashchange", look);
        return () => window.removeEventListener("hashchange", look);
    }, []);
    if (link === undefined || link.kind === "password_reset") return <Entrance signIn={signIn} />;
    const { kind, token } = link;
    return <MailLinkScreen signIn={signIn} kind={kind} token={token} onOver={() => setLink(undefined)} />;
}

type State =
    | { is: "resuming" }
    | { is: "signed-out"; notice?: Key }
    | { is: "failed"; error: unknown }
    | { is: "open"; workspace: Workspace };

/** Shows the messenger to who is signed in, and the sign-in to everyone else. */
function Entrance({ signIn }: { signIn: SignIn }): ReactNode {
    const t = useText();
    const [state, setState] = useState<State>({ is: "resuming" });
    const hasBegun = useRef(false);
    const open = useCallback(
        (identity: Identity) => {
            Workspace.open(identity, signIn.config.services).then(
                (workspace) => setState({ is: "open", workspace }),
                (error: unknown) => setState({ is: "failed", error }),
            );
        },
        [signIn],
    );
    useEffect(() => {
        // A code is good once, and an effect runs twice in development.
        if (hasBegun.current) return;
        hasBegun.current = true;
        signIn.resume().then(
            (identity) => {
                if (identity === undefined) setState({ is: "signed-out" });
                else if (identity !== "away") open(identity);
            },
            (error: unknown) => setState({ is: "failed", error }),
        );
    }, [signIn, open]);

    switch (state.is) {
        case "resuming":
            return (
                <main className="centre" aria-busy="true">
                    <p>{t("loading")}</p>
                </main>
            );
        case "failed":
            return <Failed error={state.error} />;
        case "signed-out":
            return (
                <SignInScreen signIn={signIn} onSignedIn={open} {...(state.notice && { said: state.notice })} />
            );
        case "open":
            return (
                <Open
                    signIn={signIn}
                    workspace={state.workspace}
                    onOver={(notice) => setState({ is: "signed-out", ...(notice && { notice }) })}
                />
            );
    }
}

function Failed({ error }: { error: unknown }): ReactNode {
    const t = useText();
    return (
        <main className="centre">
            <ErrorText error={error ?? new Error("a component failed")} />
            <button type="button" className="primary" onClick={() => location.reload()}>
                {t("tryAgain")}
            </button>
        </main>
    );
}

/** What is still here of a user whose session has ended. */
const FORGOTTEN = {
    nothing: "nothingLost",
    all: "forgotten",
    "all-but-unsent": "forgottenButUnsent",
} as const satisfies Record<string, Key>;

type OpenProps = { signIn: SignIn; workspace: Workspace; onOver: (notice?: Key) => void };

function Open({ signIn, workspace, onOver }: OpenProps): ReactNode {
    const t = useText();
    useEffect(() => {
        if (!signIn.isAway) return undefined;
        const over = new AbortController();
        void signIn.comeBack(over.signal);
        return () => over.abort();
    }, [signIn]);
    const { say, preferences } = usePage();
    const { state, closeCode } = useSource(workspace.connection);
    const { receipt } = useSource(workspace.self);
    // In development an effect ends and begins again at once, and a session that is closed stays so.
    const closing = useRef<ReturnType<typeof setTimeout>>(undefined);
    useEffect(() => {
        clearTimeout(closing.current);
        return () => {
            closing.current = setTimeout(() => workspace.close());
        };
    }, [workspace]);
    // The next user of this browser has not asked for any.
    const forget = () => preferences.set({ notifies: false });
    const signOut = async () => {
        let notice: Key | undefined;
        try {
            await workspace.signOut();
        } catch (error) {
            if (!(error instanceof CallError)) throw error;
            // This browser has forgotten the user all the same.
            signIn.oweSignOut(workspace.user);
            notice = signIn.isAtRealm ? "signOutOwed" : "signOutOnlyHere";
        }
        forget();
        onOver(notice);
    };
    const { forgotten } = workspace;
    useEffect(() => {
        if (state !== "connecting") say(t(`connection.${state}`));
        // What is said depends on the state, and not on how.
    }, [state]);
    useEffect(() => {
        if (receipt !== undefined || forgotten === "all") forget();
    }, [receipt, forgotten]);
    if (receipt !== undefined) return <Farewell receipt={receipt} />;
    if (state === "ended") {
        return (
            <main className="centre">
                <p role="alert">{t(closingKey(closeCode) ?? "connection.ended")}</p>
                <p className="hint">{t(FORGOTTEN[forgotten ?? "nothing"])}</p>
                <button type="button" className="primary" onClick={() => location.reload()}>
                    {t("signIn")}
                </button>
            </main>
        );
    }
    return (
        <WorkspaceProvider value={workspace}>
            <Messenger onSignOut={signOut} />
        </WorkspaceProvider>
    );
}

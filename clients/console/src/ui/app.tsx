// The page as a whole: whether a user is signed in, and where in it the user is.
import { useEffect, useRef, useState, type ReactNode } from "react";
import { useSource } from "../../../app/src/shared/source";
import { href, usePlace, type Place } from "../place";
import type { Session } from "../state/session";
import type { Texts } from "../text/texts";
import { Cells } from "./cells";
import { PageProvider, usePage, useText } from "./context";
import { NewTenantScreen } from "./new-tenant";
import { Boundary, ErrorText } from "./parts";
import { Renewal, SignInScreen } from "./sign-in-screen";
import { TenantScreen } from "./tenant";
import { Tenants } from "./tenants";
import { UsageScreen } from "./usage";

export function App({ texts }: { texts: Texts }): ReactNode {
    useEffect(() => {
        document.documentElement.lang = texts.language;
        document.title = texts.of("title");
    }, [texts]);
    return (
        <PageProvider texts={texts}>
            <Boundary fallback={<Failed />}>
                <Entrance />
            </Boundary>
        </PageProvider>
    );
}

function Failed(): ReactNode {
    const t = useText();
    return (
        <main className="centre">
            <ErrorText error={new Error("a component failed")} />
            <button type="button" className="primary" onClick={() => location.reload()}>
                {t("tryAgain")}
            </button>
        </main>
    );
}

function Entrance(): ReactNode {
    const [session, setSession] = useState<Session>();
    if (!session) return <SignInScreen onSignedIn={setSession} />;
    return <Frame session={session} onLeave={() => setSession(undefined)} />;
}

function Frame({ session, onLeave }: { session: Session; onLeave: () => void }): ReactNode {
    const t = useText();
    const { hasEnded, username } = useSource(session);
    const place = usePlace();
    const main = useRef<HTMLElement>(null);
    const isFirst = useRef(true);
    const where = href(place);
    useEffect(() => session.start(), [session]);
    useEffect(() => {
        // Another screen begins at its beginning, for the eye and for the keyboard.
        if (!isFirst.current) main.current?.focus();
        isFirst.current = false;
    }, [where]);
    return (
        <div className="frame">
            <a
                className="skip"
                href="#main"
                onClick={(event) => {
                    event.preventDefault();
                    main.current?.focus();
                }}
            >
                {t("skip")}
            </a>
            <header className="top">
                <strong>{t("title")}</strong>
                <nav aria-label={t("title")}>
                    <Link
                        to={{ at: "tenants" }}
                        isCurrent={place.at !== "cells" && place.at !== "usage"}
                        text={t("tenants")}
                    />
                    <Link to={{ at: "cells" }} isCurrent={place.at === "cells"} text={t("cells")} />
                    <Link to={{ at: "usage" }} isCurrent={place.at === "usage"} text={t("usage")} />
                </nav>
                <span className="hint">{t("signedInAs", { name: username })}</span>
                <Freshness session={session} />
                <button type="button" onClick={() => void session.refresh()}>
                    {t("refresh")}
                </button>
                <button type="button" onClick={onLeave}>
                    {t("signOut")}
                </button>
            </header>
            {hasEnded && <Renewal session={session} />}
            <main id="main" ref={main} tabIndex={-1}>
                <Boundary key={where} fallback={<ErrorText error={new Error("a component failed")} />}>
                    <Screen session={session} place={place} />
                </Boundary>
            </main>
        </div>
    );
}

/** Of when what is shown is, and whether changes come by themselves. */
function Freshness({ session }: { session: Session }): ReactNode {
    const t = useText();
    const { texts } = usePage();
    const { isFollowed, asOfMs, hasEnded } = useSource(session);
    const { isCut, asOfMs: heardMs } = useSource(session.live);
    const isSaid = isCut && !hasEnded;
    const time = texts.time(isFollowed ? Math.max(asOfMs, heardMs) : asOfMs);
    return (
        <>
            {asOfMs > 0 && <span className="hint">{t(isFollowed ? "live" : "refreshedAt", { time })}</span>}
            <span role="status" className={isSaid ? "cut" : "visually-hidden"}>
                {isSaid && t("live.cut")}
            </span>
        </>
    );
}

function Link({ to, isCurrent, text }: { to: Place; isCurrent: boolean; text: string }): ReactNode {
    return (
        <a href={href(to)} aria-current={isCurrent ? "page" : undefined}>
            {text}
        </a>
    );
}

function Screen({ session, place }: { session: Session; place: Place }): ReactNode {
    switch (place.at) {
        case "tenants":
            return <Tenants session={session} />;
        case "usage":
            return <UsageScreen session={session} />;
        case "new":
            return <NewTenantScreen session={session} />;
        case "cells":
            return <Cells session={session} />;
        case "tenant":
            return <TenantScreen session={session} namespace={place.namespace} name={place.name} />;
    }
}

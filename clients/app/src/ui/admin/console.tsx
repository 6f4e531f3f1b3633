// The console of a tenant's moderators. It is a file of its own that is fetched when one of them opens it.
import { useEffect, useMemo, useState, type ReactNode } from "react";
import { ADMIN_SCREENS, go, href, type AdminScreen, type Place } from "../../place";
import { Admin } from "../../state/admin/admin";
import { loadAdminTexts, type AdminKey } from "../../text/admin";
import type { Texts } from "../../text/texts";
import { usePage, useText, useWorkspace } from "../context";
import { IconButton } from "../parts";
import { Appeals } from "./appeals";
import { Audit } from "./audit";
import { AdminProvider, useAdminText } from "./context";
import { ExportsScreen } from "./exports";
import { Invitations } from "./invitations";
import { Queue } from "./queue";
import { Roles } from "./roles";
import { RuleSet } from "./rule-set";
import { Rules } from "./rules";
import { Usage } from "./usage";
import { UserScreen } from "./user";
import { UserList } from "./users";
import "../../styles/admin.css";

type Props = { place: Place & { admin: AdminScreen } };

export default function Console({ place }: Props): ReactNode {
    const t = useText();
    const { identity, standing, users } = useWorkspace();
    const language = usePage().texts.language;
    const [texts, setTexts] = useState<Texts<AdminKey>>();
    // What it has read is read again when it is opened again: others decide, too.
    const admin = useMemo(() => new Admin(identity, standing, users), [identity, standing, users]);
    useEffect(() => {
        let isCurrent = true;
        void loadAdminTexts(language).then((loaded) => isCurrent && setTexts(loaded));
        return () => void (isCurrent = false);
    }, [language]);
    const page = useMemo(() => texts && { admin, texts }, [admin, texts]);
    if (!page) {
        return (
            <main className="centre" aria-busy="true">
                <p>{t("loading")}</p>
            </main>
        );
    }
    return (
        <AdminProvider value={page}>
            <main className="admin">
                <header>
                    <IconButton icon="back" label={t("toChats")} onClick={() => go({})} />
                    <h1>{t("administration")}</h1>
                </header>
                <Screens screen={place.admin} />
                <Shown key={place.admin} screen={place.admin} of={place.of} />
            </main>
        </AdminProvider>
    );
}

function Screens({ screen }: { screen: AdminScreen }): ReactNode {
    const t = useText();
    const at = useAdminText();
    return (
        <nav aria-label={t("administration")}>
            <ul>
                {ADMIN_SCREENS.map((name) => (
                    <li key={name}>
                        <a href={href({ admin: name })} aria-current={name === screen ? "page" : undefined}>
                            {at(`screen.${name}`)}
                        </a>
                    </li>
                ))}
            </ul>
        </nav>
    );
}

function Shown({ screen, of }: { screen: AdminScreen; of: string | undefined }): ReactNode {
    switch (screen) {
        case "queue":
            return <Queue />;
        case "appeals":
            return <Appeals />;
        case "users":
            return of === undefined ? <UserList /> : <UserScreen key={of} id={of} />;
        case "roles":
            return <Roles />;
        case "invitations":
            return <Invitations chat={of} />;
        case "rules":
            return of === undefined ? <Rules /> : <RuleSet key={of} id={of} />;
        case "audit":
            return <Audit />;
        case "usage":
            return <Usage />;
        case "exports":
            return <ExportsScreen />;
    }
}

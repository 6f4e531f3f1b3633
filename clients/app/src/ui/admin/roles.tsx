// Who has a role in the messenger: its moderators, and how they came to be that. The manifest decides it, and nothing is changed here.
import type { moderation } from "@posthouse/client";
import { useEffect, type ReactNode } from "react";
import { useAdmin, useAdminText } from "./context";
import { Listed, Screen, User } from "./parts";

/** What comes before an id in the manifest. */
const ID = "id:";

export function Roles(): ReactNode {
    const at = useAdminText();
    const { moderators } = useAdmin();
    useEffect(() => void moderators.open(), [moderators]);
    return (
        <Screen title={at("screen.roles")}>
            <p>{at("rolesText")}</p>
            <p className="hint">{at("rolesAsk")}</p>
            <Listed list={moderators} empty={at("noModerators")}>
                {(moderator) => (
                    <li key={moderator.named}>
                        <ModeratorItem moderator={moderator} />
                    </li>
                )}
            </Listed>
        </Screen>
    );
}

function ModeratorItem({ moderator: { named, user } }: { moderator: moderation.NamedModerator }): ReactNode {
    const at = useAdminText();
    const isId = named.startsWith(ID);
    return (
        <article className="admin-card">
            <header>
                {user == null ? <strong>{at("noAccount")}</strong> : <User id={user} />}
                <span className="role">{at("moderator")}</span>
            </header>
            <p>
                {at(isId ? "namedById" : "namedByUsername")}{" "}
                <code>{isId ? named.slice(ID.length) : named}</code>
            </p>
            {user == null && <p className="hint">{at(isId ? "noAccountWithId" : "noAccountWithName")}</p>}
        </article>
    );
}

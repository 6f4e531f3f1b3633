// Contacts, and whom the user blocks.
import { useEffect, type ReactNode } from "react";
import { href, type Place } from "../place";
import { useSource } from "../state/source";
import { UserAvatar } from "./avatar";
import { useText, useWorkspace } from "./context";
import { useUserName } from "./names";
import { Dialog, ErrorText, Name, useCall } from "./parts";
import { StatusText } from "./status";

export default function PeoplePanel({ place, onClose }: { place: Place; onClose: () => void }): ReactNode {
    const t = useText();
    const workspace = useWorkspace();
    const people = useSource(workspace.people);
    const nameOf = useUserName();
    const { isBusy, error, run } = useCall();
    useEffect(() => void people.load(), [people]);
    return (
        <Dialog title={t("people.title")} onClose={onClose}>
            {people.contacts.length === 0 && <p className="hint">{t("people.none")}</p>}
            <ul className="users">
                {people.contacts.map(({ profile }) => (
                    <li key={profile.user_id}>
                        <UserAvatar
                            user={profile.user_id}
                            name={nameOf(profile.user_id)}
                            isOnline={workspace.users.presence(profile.user_id)?.state === "online"}
                        />
                        <a href={href({ ...place, panel: "user", user: profile.user_id })}>
                            <Name text={nameOf(profile.user_id)} />
                        </a>{" "}
                        <span className="username">@{profile.username}</span>
                        {profile.status && <StatusText status={profile.status} />}
                    </li>
                ))}
            </ul>
            <section>
                <h3>{t("people.blocked")}</h3>
                <p className="hint">{t("block.explained")}</p>
                {people.blocked.length === 0 && <p className="hint">{t("people.noneBlocked")}</p>}
                <ErrorText error={error} />
                <ul className="users">
                    {people.blocked.map((user) => (
                        <li key={user}>
                            <UserAvatar user={user} name={nameOf(user)} />
                            <Name text={nameOf(user)} />
                            <button
                                type="button"
                                className="action"
                                disabled={isBusy}
                                aria-label={t("block.liftOf", { name: nameOf(user) })}
                                onClick={() => run(() => people.unblock(user))}
                            >
                                {t("block.lift")}
                            </button>
                        </li>
                    ))}
                </ul>
            </section>
        </Dialog>
    );
}

// Contacts, and whom the user blocks.
import { useEffect, type ReactNode } from "react";
import { href, type Place } from "../place";
import { useSource } from "../shared/source";
import { UserAvatar } from "./avatar";
import { useText, useWorkspace } from "./context";
import { useUserName } from "./names";
import { Dialog, ErrorText, Name, useCall } from "./parts";
import { StatusText } from "./status";

export default function ContactsPanel({ place, onClose }: { place: Place; onClose: () => void }): ReactNode {
    const t = useText();
    const workspace = useWorkspace();
    const contacts = useSource(workspace.contacts);
    const nameOf = useUserName();
    const { isBusy, error, run } = useCall();
    useEffect(() => void contacts.load(), [contacts]);
    return (
        <Dialog title={t("contacts.title")} onClose={onClose}>
            {contacts.all.length === 0 && <p className="hint">{t("contacts.none")}</p>}
            <ul className="users">
                {contacts.all.map(({ profile }) => (
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
                <h3>{t("contacts.blocked")}</h3>
                <p className="hint">{t("block.explained")}</p>
                {contacts.blocked.length === 0 && <p className="hint">{t("contacts.noneBlocked")}</p>}
                <ErrorText error={error} />
                <ul className="users">
                    {contacts.blocked.map((user) => (
                        <li key={user}>
                            <UserAvatar user={user} name={nameOf(user)} />
                            <Name text={nameOf(user)} />
                            <button
                                type="button"
                                className="action"
                                disabled={isBusy}
                                aria-label={t("block.liftOf", { name: nameOf(user) })}
                                onClick={() => run(() => contacts.unblock(user))}
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

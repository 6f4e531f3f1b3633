// A user as others see them, and what the user has to do with them.
import { useState, type ReactNode } from "react";
import { go } from "../place";
import { useSource } from "../shared/source";
import { UserAvatar } from "./avatar";
import { usePage, useText, useWorkspace } from "./context";
import { useUserName } from "./names";
import { Dialog, ErrorText, Field, Name, SaveRow, useCall } from "./parts";
import { StatusText } from "./status";

/** By the messenger. */
const MAX_NAME_CHARACTERS = 64;

export default function UserPanel({ user, onClose }: { user: string; onClose: () => void }): ReactNode {
    const t = useText();
    const { texts } = usePage();
    const workspace = useWorkspace();
    const { contacts } = workspace;
    const users = useSource(workspace.users);
    useSource(contacts);
    const nameOf = useUserName();
    const { isBusy, error, run } = useCall();
    const [isSaved, setIsSaved] = useState(false);
    const profile = users.get(user);
    const name = nameOf(user);
    const contact = contacts.get(user);
    const isBlocked = contacts.isBlocked(user);
    const isMe = user === workspace.user;
    const presence = users.presence(user);
    const talk = async () =>
        go({ chat: await workspace.createChat({ kind: "direct", members: [user] }) }, true);
    const toggleBlock = () => (isBlocked ? contacts.unblock(user) : contacts.block(user));
    return (
        <Dialog title={t("user.title")} onClose={onClose}>
            <div className="row">
                <UserAvatar user={user} name={name} isOnline={presence?.state === "online"} />
                <Name text={name} />
                {profile && <span className="username">@{profile.username}</span>}
            </div>
            {profile && contact?.name && contact.name !== profile.display_name && (
                <p className="hint">
                    {t("user.calledSelf")} <Name text={profile.display_name} />
                </p>
            )}
            {profile?.status && <StatusText status={profile.status} />}
            {profile?.about && <p dir="auto">{profile.about}</p>}
            {presence?.state === "offline" && presence.last_seen_ms !== undefined && (
                <p className="hint">
                    {t("presence.seen", { when: texts.ago(presence.last_seen_ms, Date.now()) })}
                </p>
            )}
            <ErrorText error={error} />
            {!isMe && profile && !profile.deleted && (
                <>
                    <div className="row">
                        <button
                            type="button"
                            className="primary"
                            disabled={isBusy || isBlocked}
                            onClick={() => run(talk)}
                        >
                            {t("user.talk")}
                        </button>
                        <button
                            type="button"
                            disabled={isBusy}
                            onClick={() => run(() => (contact ? contacts.drop(user) : contacts.keep(user)))}
                        >
                            {t(contact ? "contact.remove" : "contact.add")}
                        </button>
                        <button
                            type="button"
                            className={isBlocked ? undefined : "danger"}
                            disabled={isBusy}
                            onClick={() => run(toggleBlock)}
                        >
                            {t(isBlocked ? "block.lift" : "block.add")}
                        </button>
                    </div>
                    <p className="hint">{t("block.explained")}</p>
                    {contact && (
                        <form
                            key={contact.name ?? ""}
                            onChange={() => setIsSaved(false)}
                            onSubmit={(event) => {
                                event.preventDefault();
                                const form = new FormData(event.currentTarget);
                                const own = String(form.get("name")).trim();
                                run(async () => {
                                    await contacts.keep(user, own === "" ? undefined : own);
                                    setIsSaved(true);
                                });
                            }}
                        >
                            <Field
                                label={t("contact.name")}
                                name="name"
                                dir="auto"
                                maxLength={MAX_NAME_CHARACTERS}
                                defaultValue={contact.name ?? ""}
                                hint={t("contact.nameHint")}
                            />
                            <SaveRow isBusy={isBusy} isSaved={isSaved} />
                        </form>
                    )}
                </>
            )}
        </Dialog>
    );
}

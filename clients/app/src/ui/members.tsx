// The members of a group, with what the user may do about them.
import type { chat, search } from "@posthouse/client";
import { useEffect, useState, type ReactNode } from "react";
import { go } from "../place";
import { useSource } from "../state/source";
import { usePage, useText, useWorkspace } from "./context";
import { useUserName } from "./names";
import { Avatar, Dialog, ErrorText, IconButton, Name, useCall } from "./parts";
import { UserPicker } from "./user-picker";

export function Members({ chat: id, onClose }: { chat: string; onClose: () => void }): ReactNode {
    const t = useText();
    const { texts } = usePage();
    const workspace = useWorkspace();
    const state = useSource(workspace.chats).get(id);
    const { users, user } = workspace;
    useSource(users);
    const nameOf = useUserName();
    const [members, setMembers] = useState<chat.ChatMember[]>();
    const [chosen, setChosen] = useState<search.FoundUser[]>([]);
    const [refused, setRefused] = useState<string[]>([]);
    const { isBusy, error, run } = useCall();
    const manages = state?.role === "owner" || state?.role === "admin";
    // The count changes with every member who comes or goes, by whichever device.
    useEffect(
        () => run(async () => setMembers(await workspace.members(id))),
        [workspace, id, state?.member_count],
    );

    const add = async () => {
        const added = await workspace.addMembers(
            id,
            chosen.map(({ user_id }) => user_id),
        );
        setRefused(added.refused.map(({ user_id }) => user_id));
        setChosen([]);
        setMembers(await workspace.members(id));
    };
    return (
        <Dialog title={t("members", { count: state?.member_count ?? 0 })} onClose={onClose}>
            {manages && (
                <form
                    onSubmit={(event) => {
                        event.preventDefault();
                        if (chosen.length > 0) run(add);
                    }}
                >
                    <UserPicker
                        chosen={chosen}
                        onChosen={setChosen}
                        except={members?.map(({ user_id }) => user_id) ?? []}
                    />
                    {chosen.length > 0 && (
                        <button type="submit" className="primary" disabled={isBusy}>
                            {t("addMembers", { count: chosen.length })}
                        </button>
                    )}
                </form>
            )}
            {refused.length > 0 && (
                <p role="alert" className="error">
                    {t("notAdded", { names: texts.list(refused.map(nameOf)) })}
                </p>
            )}
            <ErrorText error={error} />
            <ul className="users" aria-busy={members === undefined}>
                {members?.map(({ user_id, role }) => (
                    <li key={user_id}>
                        <Avatar
                            id={user_id}
                            name={nameOf(user_id)}
                            isOnline={users.presence(user_id)?.state === "online"}
                        />
                        <Name text={nameOf(user_id)} />{" "}
                        <span className="username">@{users.get(user_id)?.username ?? "…"}</span>
                        {role !== "member" && <span className="role">{t(`role.${role}`)}</span>}
                        {manages && user_id !== user && role !== "owner" && (
                            <IconButton
                                icon="trash"
                                label={t("removeMember", { name: nameOf(user_id) })}
                                disabled={isBusy}
                                onClick={() =>
                                    run(async () => {
                                        await workspace.removeMember(id, user_id);
                                        setMembers(await workspace.members(id));
                                    })
                                }
                            />
                        )}
                    </li>
                ))}
            </ul>
            <button
                type="button"
                className="danger"
                disabled={isBusy}
                onClick={() =>
                    run(async () => {
                        await workspace.leave(id);
                        go({}, true);
                    })
                }
            >
                {t("leave")}
            </button>
        </Dialog>
    );
}

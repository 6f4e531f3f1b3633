// The members of a group, with what the user may do about them.
import { groups, type chat, type search } from "@posthouse/client";
import { useState, type ReactNode } from "react";
import { go, href } from "../place";
import { useRead } from "../shared/call";
import { useSource } from "../shared/source";
import { UserAvatar } from "./avatar";
import { Confirm } from "./confirm";
import { usePage, useText, useWorkspace } from "./context";
import { Menu, type MenuItem } from "./menu";
import { useUserName } from "./names";
import { Dialog, ErrorText, Name, useCall } from "./parts";
import { manages as managesChat, mayRemove, rolesToGive } from "./rights";
import { UserPicker } from "./user-picker";

export function Members({ chat: id, onClose }: { chat: string; onClose: () => void }): ReactNode {
    const t = useText();
    const { texts, say } = usePage();
    const workspace = useWorkspace();
    const state = useSource(workspace.chats).get(id);
    const { users, user } = workspace;
    useSource(users);
    const nameOf = useUserName();
    const [chosen, setChosen] = useState<search.FoundUser[]>([]);
    const [refused, setRefused] = useState<string[]>([]);
    const [heir, setHeir] = useState<string>();
    const { isBusy, error, run } = useCall();
    const role = state?.role ?? "member";
    const manages = state !== undefined && managesChat(state);
    // The count changes with every member who comes or goes, by whichever device, and the role when it is given away.
    const read = useRead(() => workspace.members(id), [workspace, id, state?.member_count, role]);
    const { value: members, reload } = read;

    const add = async () => {
        const added = await workspace.addMembers(
            id,
            chosen.map(({ user_id }) => user_id),
        );
        setRefused(added.refused.map(({ user_id }) => user_id));
        setChosen([]);
        await reload();
    };
    const give = async (member: string, to: chat.Role) => {
        await groups.setRole(workspace.identity, id, member, to);
        say(t("role.given", { name: nameOf(member), role: t(`role.${to}`) }));
        await reload();
    };
    const actions = (member: chat.ChatMember): Array<MenuItem | false> => {
        if (member.user_id === user) return [];
        const remove = async () => {
            await workspace.removeMember(id, member.user_id);
            await reload();
        };
        return [
            ...rolesToGive(role, member.role).map((to): MenuItem => ({
                label: t(`role.make.${to}`),
                isDanger: to === "owner",
                // An owner who gives the group away has no way back to it.
                onChosen: () =>
                    to === "owner" ? setHeir(member.user_id) : run(() => give(member.user_id, to)),
            })),
            mayRemove(role, member.role) && {
                label: t("removeMember", { name: nameOf(member.user_id) }),
                icon: "trash",
                isDanger: true,
                onChosen: () => run(remove),
            },
        ];
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
            {manages && <a href={href({ chat: id, panel: "invites" })}>{t("invites.title")}</a>}
            {refused.length > 0 && (
                <p role="alert" className="error">
                    {t("notAdded", { names: texts.list(refused.map(nameOf)) })}
                </p>
            )}
            <ErrorText error={error ?? read.error} />
            <ul className="users" aria-busy={members === undefined}>
                {members?.map((member) => {
                    const { user_id, role } = member;
                    return (
                        <li key={user_id}>
                            <UserAvatar
                                user={user_id}
                                name={nameOf(user_id)}
                                isOnline={users.presence(user_id)?.state === "online"}
                            />
                            <span className="words">
                                <a href={href({ chat: id, panel: "user", user: user_id })}>
                                    <Name text={nameOf(user_id)} />
                                </a>{" "}
                                <span className="username">@{users.get(user_id)?.username ?? "…"}</span>
                            </span>
                            {role !== "member" && <span className="role">{t(`role.${role}`)}</span>}
                            <Menu
                                label={t("memberActions", { name: nameOf(user_id) })}
                                items={actions(member)}
                                disabled={isBusy}
                            />
                        </li>
                    );
                })}
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
            {heir !== undefined && (
                <Confirm
                    title={t("role.make.owner")}
                    text={t("role.giveAway", { name: nameOf(heir) })}
                    action={t("role.make.owner")}
                    onConfirmed={() => give(heir, "owner")}
                    onClose={() => setHeir(undefined)}
                />
            )}
        </Dialog>
    );
}

// Who may come into the groups that the user has charge of: links, and users who ask.
import type { chat as chats } from "@posthouse/client";
import { useEffect, useState, type ReactNode } from "react";
import { go } from "../../place";
import { InvitesOf } from "../invites";
import { useCall } from "../parts";
import { useAdmin, useAdminText } from "./context";
import { AdminError, Screen, Select } from "./parts";

export function Invitations({ chat }: { chat: string | undefined }): ReactNode {
    const at = useAdminText();
    const admin = useAdmin();
    const [managed, setManaged] = useState<chats.Chat[]>();
    const { error, run } = useCall();
    useEffect(() => run(async () => setManaged(await admin.managedChats())), [admin]);
    return (
        <Screen title={at("screen.invitations")}>
            <AdminError error={error} />
            {managed?.length === 0 && <p>{at("noManaged")}</p>}
            {managed && managed.length > 0 && (
                <Select
                    label={at("group")}
                    value={managed.some(({ chat_id }) => chat_id === chat) ? chat! : ""}
                    options={[
                        ["", at("chooseGroup")] as const,
                        ...managed.map(({ chat_id, title }) => [chat_id, title ?? chat_id] as const),
                    ]}
                    onChange={(of) => go({ admin: "invitations", ...(of !== "" && { of }) }, true)}
                />
            )}
            {managed?.some(({ chat_id }) => chat_id === chat) && <InvitesOf key={chat} chat={chat!} />}
        </Screen>
    );
}

// Who may come into the groups that the user has charge of: links, and users who ask.
import type { chat as chats } from "@posthouse/client";
import { useEffect, useMemo, useRef, useState, type ReactNode } from "react";
import { go } from "../../place";
import { usePage } from "../context";
import { Field, useCall } from "../parts";
import { useAdmin, useAdminText } from "./context";
import { AdminError, Check, Facts, Listed, Moment, Screen, Select, User } from "./parts";

const SPANS = ["86400", "604800", "2592000", ""] as const;

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
            {managed?.some(({ chat_id }) => chat_id === chat) && (
                <>
                    <Links key={`links ${chat}`} chat={chat!} />
                    <Requests key={`requests ${chat}`} chat={chat!} />
                </>
            )}
        </Screen>
    );
}

function Links({ chat }: { chat: string }): ReactNode {
    const at = useAdminText();
    const admin = useAdmin();
    const { texts } = usePage();
    const heading = useRef<HTMLHeadingElement>(null);
    const [invites, setInvites] = useState<chats.Invite[]>();
    const [made, setMade] = useState<chats.CreatedInvite>();
    const [span, setSpan] = useState<(typeof SPANS)[number]>("604800");
    const [uses, setUses] = useState("");
    const [needsApproval, setNeedsApproval] = useState(false);
    const { isBusy, error, run } = useCall();
    const load = async () => setInvites(await admin.invites(chat));
    useEffect(() => run(load), [admin, chat]);
    const make = async () => {
        const invite = await admin.invite(chat, {
            ...(span !== "" && { expires_in_seconds: Number(span) }),
            ...(uses !== "" && { max_uses: Number(uses) }),
            ...(needsApproval && { needs_approval: true }),
        });
        setMade(invite);
        await load();
    };
    return (
        <section>
            <h3 ref={heading} tabIndex={-1}>
                {at("links")}
            </h3>
            <form
                onSubmit={(event) => {
                    event.preventDefault();
                    run(make);
                }}
            >
                <Select
                    label={at("goodFor")}
                    value={span}
                    options={SPANS.map(
                        (seconds) =>
                            [
                                seconds,
                                seconds === "" ? at("untilRevoked") : texts.span(Number(seconds)),
                            ] as const,
                    )}
                    onChange={setSpan}
                />
                <Field
                    label={at("maxUses")}
                    type="number"
                    min={1}
                    max={10_000}
                    value={uses}
                    hint={at("maxUsesHint")}
                    onChange={(event) => setUses(event.target.value)}
                />
                <Check label={at("needsApproval")} checked={needsApproval} onChange={setNeedsApproval} />
                <AdminError error={error} />
                <div className="row">
                    <button type="submit" className="primary" disabled={isBusy}>
                        {at("makeLink")}
                    </button>
                </div>
            </form>
            {made && (
                <div role="status" className="admin-card">
                    <Field
                        label={at("codeOnce")}
                        readOnly
                        value={made.code}
                        onFocus={(event) => event.target.select()}
                    />
                </div>
            )}
            <ul className="admin-list" aria-busy={invites === undefined}>
                {invites?.map((invite) => (
                    <li key={invite.invite_id} className="admin-card">
                        <Facts
                            facts={[
                                [at("madeBy"), <User key="" id={invite.made_by} />],
                                [at("begun"), <Moment key="" at={invite.created_at_ms} />],
                                [
                                    at("goodUntil"),
                                    invite.expires_at_ms == null
                                        ? at("untilRevoked")
                                        : texts.moment(invite.expires_at_ms),
                                ],
                                [
                                    at("used"),
                                    invite.max_uses == null
                                        ? texts.number(invite.uses)
                                        : at("usedOf", { uses: invite.uses, most: invite.max_uses }),
                                ],
                                [at("approval"), invite.needs_approval && at("needed")],
                            ]}
                        />
                        <button
                            type="button"
                            className="danger"
                            disabled={isBusy}
                            onClick={() =>
                                run(async () => {
                                    await admin.revokeInvite(chat, invite.invite_id);
                                    if (made?.invite_id === invite.invite_id) setMade(undefined);
                                    await load();
                                    heading.current?.focus();
                                })
                            }
                        >
                            {at("revoke")}
                        </button>
                    </li>
                ))}
            </ul>
            {invites?.length === 0 && <p className="hint">{at("noLinks")}</p>}
        </section>
    );
}

function Requests({ chat }: { chat: string }): ReactNode {
    const at = useAdminText();
    const admin = useAdmin();
    const heading = useRef<HTMLHeadingElement>(null);
    const requests = useMemo(() => admin.joinRequests(chat), [admin, chat]);
    const { isBusy, error, run } = useCall();
    useEffect(() => void requests.open(), [requests]);
    const decide = (user: string, letsIn: boolean) =>
        run(async () => {
            await admin.decideJoin(chat, user, letsIn);
            requests.drop(user);
            // The button that had the focus goes.
            heading.current?.focus();
        });
    return (
        <section>
            <h3 ref={heading} tabIndex={-1}>
                {at("requests")}
            </h3>
            <AdminError error={error} />
            <Listed list={requests} empty={at("noRequests")}>
                {({ user_id, requested_at_ms }) => (
                    <li key={user_id} className="row">
                        <User id={user_id} /> <Moment at={requested_at_ms} />
                        <button type="button" disabled={isBusy} onClick={() => decide(user_id, true)}>
                            {at("letIn")}
                        </button>
                        <button type="button" disabled={isBusy} onClick={() => decide(user_id, false)}>
                            {at("decline")}
                        </button>
                    </li>
                )}
            </Listed>
        </section>
    );
}

// The invite links of a group, and who asks to come in.
import { groups, type chat } from "@posthouse/client";
import { useEffect, useId, useRef, useState, type ReactNode } from "react";
import { href } from "../place";
import { copy } from "../shared/clipboard";
import { UserAvatar } from "./avatar";
import { usePage, useText, useWorkspace } from "./context";
import { useUserName } from "./names";
import { Dialog, ErrorText, Field, IconButton, Name, Select, useCall } from "./parts";

/** For how long a link is good, in seconds; 0 until it is revoked. */
const LIVES = [3_600, 86_400, 604_800, 2_592_000, 0] as const;
const FIRST_LIFE = 604_800;
/** By the messenger. */
const MAX_USES = 10_000;

export default function Invites({ chat, onClose }: { chat: string; onClose: () => void }): ReactNode {
    const t = useText();
    return (
        <Dialog title={t("invites.title")} onClose={onClose}>
            <InvitesOf chat={chat} />
        </Dialog>
    );
}

/** All of it for one group, as the console has it, too. */
export function InvitesOf({ chat: id }: { chat: string }): ReactNode {
    const t = useText();
    const { texts, say } = usePage();
    const { identity } = useWorkspace();
    const nameOf = useUserName();
    const [invites, setInvites] = useState<chat.Invite[]>();
    const [requests, setRequests] = useState<chat.JoinRequest[]>([]);
    const [made, setMade] = useState<{ invite: string; address: string }>();
    const heading = useRef<HTMLHeadingElement>(null);
    const base = useId();
    const { isBusy, error, run } = useCall();
    const load = async () => {
        const [links, asking] = await Promise.all([
            groups.invites(identity, id),
            groups.joinRequests(identity, id),
        ]);
        setInvites(links);
        setRequests(asking);
    };
    useEffect(() => run(load), [identity, id]);
    const make = async (form: FormData) => {
        const [life, uses] = [Number(form.get("life")), Number(form.get("uses") || 0)];
        const { code, invite_id } = await groups.makeInvite(identity, id, {
            ...(life > 0 && { expires_in_seconds: life }),
            ...(uses > 0 && { max_uses: uses }),
            ...(form.get("approval") !== null && { needs_approval: true }),
        });
        setMade({ invite: invite_id, address: `${location.origin}/${href({ invite: code })}` });
        await load();
    };
    // The button that had the focus goes.
    const goOn = () => heading.current?.focus();
    const decide = (user: string, isWelcome: boolean) =>
        run(async () => {
            if (isWelcome) await groups.accept(identity, id, user);
            else await groups.decline(identity, id, user);
            await load();
            goOn();
        });
    return (
        <>
            <form
                aria-busy={isBusy}
                onSubmit={(event) => {
                    event.preventDefault();
                    const form = new FormData(event.currentTarget);
                    run(() => make(form));
                }}
            >
                <Select label={t("invites.life")} name="life" defaultValue={FIRST_LIFE}>
                    {LIVES.map((seconds) => (
                        <option key={seconds} value={seconds}>
                            {seconds === 0 ? t("invites.untilRevoked") : texts.span(seconds)}
                        </option>
                    ))}
                </Select>
                <Field
                    label={t("invites.uses")}
                    name="uses"
                    type="number"
                    min={1}
                    max={MAX_USES}
                    hint={t("invites.usesHint")}
                />
                <label className="check">
                    <input type="checkbox" name="approval" />
                    {t("invites.approval")}
                </label>
                <button type="submit" className="primary" disabled={isBusy}>
                    {t("invites.make")}
                </button>
            </form>
            {made !== undefined && (
                <section role="status">
                    <p>{t("invites.made")}</p>
                    <div className="row">
                        <code className="address" dir="ltr">
                            {made.address}
                        </code>
                        <button
                            type="button"
                            onClick={() =>
                                void copy(made.address).then((isThere) =>
                                    say(t(isThere ? "copied" : "notCopied")),
                                )
                            }
                        >
                            {t("copy")}
                        </button>
                    </div>
                </section>
            )}
            <ErrorText error={error} />
            {requests.length > 0 && (
                <section>
                    <h3>{t("invites.requests", { count: requests.length })}</h3>
                    <ul className="users">
                        {requests.map(({ user_id }) => (
                            <li key={user_id}>
                                <UserAvatar user={user_id} name={nameOf(user_id)} />
                                <Name text={nameOf(user_id)} />
                                <IconButton
                                    icon="tick"
                                    label={t("invites.accept", { name: nameOf(user_id) })}
                                    disabled={isBusy}
                                    onClick={() => decide(user_id, true)}
                                />
                                <IconButton
                                    icon="close"
                                    label={t("invites.decline", { name: nameOf(user_id) })}
                                    disabled={isBusy}
                                    onClick={() => decide(user_id, false)}
                                />
                            </li>
                        ))}
                    </ul>
                </section>
            )}
            <section aria-busy={invites === undefined}>
                <h3 ref={heading} tabIndex={-1}>
                    {t("invites.links")}
                </h3>
                {invites?.length === 0 && <p className="hint">{t("invites.none")}</p>}
                <ul className="sessions">
                    {invites?.map((invite) => (
                        <li key={invite.invite_id}>
                            <span id={`${base}-${invite.invite_id}`}>
                                {t("invites.madeBy", {
                                    name: nameOf(invite.made_by),
                                    when: texts.short(invite.created_at_ms, Date.now()),
                                })}{" "}
                                <small className="hint">
                                    {invite.max_uses == null
                                        ? t("invites.used", { count: invite.uses })
                                        : t("invites.usedOf", { count: invite.uses, of: invite.max_uses })}
                                    {invite.expires_at_ms != null &&
                                        ` · ${t("invites.until", { when: texts.date(invite.expires_at_ms) })}`}
                                    {invite.needs_approval && ` · ${t("invites.withApproval")}`}
                                </small>
                            </span>
                            <button
                                type="button"
                                className="danger"
                                aria-describedby={`${base}-${invite.invite_id}`}
                                disabled={isBusy}
                                onClick={() =>
                                    run(async () => {
                                        await groups.revokeInvite(identity, id, invite.invite_id);
                                        if (made?.invite === invite.invite_id) setMade(undefined);
                                        await load();
                                        goOn();
                                    })
                                }
                            >
                                {t("invites.revoke")}
                            </button>
                        </li>
                    ))}
                </ul>
            </section>
        </>
    );
}

// One user: what moderators decided about them, where they are signed in, and what can be done.
import type { moderation } from "@posthouse/client";
import { useEffect, useId, useMemo, useRef, useState, type ReactNode } from "react";
import { href } from "../../place";
import type { Listing } from "../../state/admin/listing";
import type { DraftTerms } from "../../state/admin/rule-draft";
import type { UserSession } from "../../state/admin/admin";
import { useSource } from "../../shared/source";
import { usePage, useText, useWorkspace } from "../context";
import { useUserName } from "../names";
import { Name, useCall } from "../parts";
import { useAdmin, useAdminText } from "./context";
import {
    AdminError,
    ChatName,
    Confirm,
    DecisionText,
    Facts,
    isInForce,
    Listed,
    Moment,
    Quote,
    Screen,
    Select,
    TermsFields,
    useModerators,
    useNote,
    User,
    useSanctionText,
} from "./parts";

export function UserScreen({ id }: { id: string }): ReactNode {
    const at = useAdminText();
    const admin = useAdmin();
    const { users } = useWorkspace();
    const profile = useSource(users).get(id);
    const name = useUserName()(id);
    const isModerator = useModerators()(id);
    const sanctions = useMemo(() => admin.sanctionsOf(id), [admin, id]);
    useEffect(() => void sanctions.open(), [sanctions]);
    return (
        <Screen title={name} back={{ href: href({ admin: "users" }), label: at("toUsers") }}>
            <Facts
                facts={[
                    [at("username"), profile && `@${profile.username}`],
                    [at("userId"), <code key="">{id}</code>],
                    [
                        at("role"),
                        isModerator && (
                            <a key="" href={href({ admin: "roles" })}>
                                {at("moderator")}
                            </a>
                        ),
                    ],
                    [at("about"), profile?.about && <bdi key="">{profile.about}</bdi>],
                    [at("account"), profile?.deleted && at("deleted")],
                ]}
            />
            <Standing sanctions={sanctions} />
            {!profile?.deleted && <NewSanction user={id} sanctions={sanctions} />}
            {!profile?.deleted && <Sessions user={id} />}
            <h3>{at("sanctions")}</h3>
            <Listed list={sanctions} empty={at("noSanctions")}>
                {(sanction) => (
                    <li key={sanction.id}>
                        <SanctionItem sanction={sanction} sanctions={sanctions} />
                    </li>
                )}
            </Listed>
            <p>
                <a href={`${href({ admin: "audit", of: id })}`}>{at("auditOfUser")}</a>
            </p>
        </Screen>
    );
}

type Sanctions = Listing<moderation.Sanction>;

/** What holds now: the first that a moderator wants to know. */
function Standing({ sanctions }: { sanctions: Sanctions }): ReactNode {
    const at = useAdminText();
    const { items, isRead } = useSource(sanctions);
    if (!isRead) return null;
    const isIn = (kind: moderation.SanctionKind) =>
        items.some(
            (sanction) => sanction.kind === kind && sanction.chat == null && isInForce(sanction, Date.now()),
        );
    const text = isIn("ban") ? "isBanned" : isIn("mute") ? "isMuted" : "isFree";
    return <p className="admin-standing">{at(text)}</p>;
}

function SanctionItem({
    sanction,
    sanctions,
}: {
    sanction: moderation.Sanction;
    sanctions: Sanctions;
}): ReactNode {
    const at = useAdminText();
    const admin = useAdmin();
    const textOf = useSanctionText();
    const { isBusy, error, run } = useCall();
    const [isLifting, setIsLifting] = useState(false);
    const [note, noteField] = useNote(at("note"), at("noteHint"));
    const inForce = isInForce(sanction, Date.now());
    return (
        <article className="admin-card">
            <header>
                <strong>{textOf(sanction)}</strong>
                <span className="role">{at(sanction.lifted ? "lifted" : inForce ? "inForce" : "over")}</span>
            </header>
            {sanction.note !== "" && <Quote text={sanction.note} />}
            <Facts
                facts={[
                    [at("sentIn"), sanction.chat != null && <ChatName key="" id={sanction.chat} />],
                    [at("decidedBy"), sanction.by == null ? at("rules") : <User id={sanction.by} />],
                    [at("begun"), <Moment key="" at={sanction.created_at_ms} />],
                ]}
            />
            {sanction.lifted && <DecisionText decision={sanction.lifted} />}
            {inForce && (
                <button type="button" onClick={() => setIsLifting(true)}>
                    {at(sanction.kind === "ban" ? "unban" : "lift")}
                </button>
            )}
            {isLifting && (
                <Confirm
                    title={at(sanction.kind === "ban" ? "unban" : "lift")}
                    text={at("liftText")}
                    action={at(sanction.kind === "ban" ? "unban" : "lift")}
                    isBusy={isBusy}
                    error={error}
                    onClose={() => setIsLifting(false)}
                    onConfirm={() =>
                        run(async () => {
                            sanctions.put(await admin.lift(sanction.id, note));
                            setIsLifting(false);
                        })
                    }
                >
                    {noteField}
                </Confirm>
            )}
        </article>
    );
}

const FIRST_TERMS: DraftTerms = { kind: "warning", everywhere: true, seconds: "86400" };

function NewSanction({ user, sanctions }: { user: string; sanctions: Sanctions }): ReactNode {
    const at = useAdminText();
    const admin = useAdmin();
    const { say } = usePage();
    const textOf = useSanctionText();
    const name = useUserName()(user);
    const { isBusy, error, run } = useCall();
    const [terms, setTerms] = useState(FIRST_TERMS);
    const [note, noteField, setNote] = useNote(at("note"), at("noteHint"));
    const [isAsking, setIsAsking] = useState(false);
    // The chats that the moderator is in; the messenger takes any.
    const chats = useSource(useWorkspace().chats).sorted.filter(({ kind }) => kind !== "direct");
    const [chat, setChat] = useState("");
    const isBound = chat !== "" && terms.kind !== "warning";
    const act = () =>
        run(async () => {
            const { kind, seconds } = terms;
            if (kind === "") return;
            const sanction = await admin.sanctionUser({
                user,
                kind,
                note,
                ...(isBound && { chat }),
                ...(seconds !== "" && kind !== "warning" && { seconds: Number(seconds) }),
            });
            sanctions.add(sanction);
            setIsAsking(false);
            setTerms(FIRST_TERMS);
            setNote("");
            say(textOf(sanction));
        });
    return (
        <section>
            <h3>{at("newSanction")}</h3>
            <form
                onSubmit={(event) => {
                    event.preventDefault();
                    if (terms.kind === "ban" && !isBound) setIsAsking(true);
                    else act();
                }}
            >
                <TermsFields
                    terms={{ ...terms, everywhere: !isBound }}
                    onChange={setTerms}
                    canBeNone={false}
                    hasScope={false}
                />
                {terms.kind !== "warning" && (
                    <Select
                        label={at("where")}
                        value={chat}
                        options={[
                            ["", at("everywhereShort")] as const,
                            ...chats.map(({ chat, title }) => [chat, title ?? chat] as const),
                        ]}
                        onChange={setChat}
                    />
                )}
                {noteField}
                {!isAsking && <AdminError error={error} />}
                <div className="row">
                    <button type="submit" className="danger" disabled={isBusy}>
                        {at(terms.kind === "" ? "sanction" : `do.${terms.kind}`)}
                    </button>
                </div>
            </form>
            {isAsking && (
                <Confirm
                    title={at("do.ban")}
                    text={at("banText", { name })}
                    action={at("do.ban")}
                    isBusy={isBusy}
                    error={error}
                    onConfirm={act}
                    onClose={() => setIsAsking(false)}
                >
                    <Name text={name} />
                </Confirm>
            )}
        </section>
    );
}

function Sessions({ user }: { user: string }): ReactNode {
    const t = useText();
    const at = useAdminText();
    const admin = useAdmin();
    const { texts } = usePage();
    const heading = useRef<HTMLHeadingElement>(null);
    const [sessions, setSessions] = useState<UserSession[]>();
    const { isBusy, error, run } = useCall();
    const id = useId();
    const load = async () => setSessions(await admin.sessionsOf(user));
    const end = (ended: readonly UserSession[]) =>
        run(async () => {
            for (const { session_id } of ended) await admin.endSession(user, session_id);
            await load();
            // The button that had the focus goes.
            heading.current?.focus();
        });
    useEffect(() => run(load), [admin, user]);
    return (
        <section>
            <h3 ref={heading} tabIndex={-1}>
                {t("sessions")}
            </h3>
            <AdminError error={error} />
            {sessions?.length === 0 && <p className="hint">{at("noSessions")}</p>}
            <ul className="sessions" aria-busy={isBusy}>
                {sessions?.map((session) => (
                    <li key={session.session_id}>
                        <span id={`${id}-${session.session_id}`}>
                            {t("sessionUsed", { when: texts.ago(session.last_used_at_ms, Date.now()) })}{" "}
                            <small>{t("sessionBegun", { when: texts.moment(session.started_at_ms) })}</small>
                        </span>
                        <button
                            type="button"
                            aria-describedby={`${id}-${session.session_id}`}
                            disabled={isBusy}
                            onClick={() => end([session])}
                        >
                            {t("endSession")}
                        </button>
                    </li>
                ))}
            </ul>
            {sessions && sessions.length > 1 && (
                <button type="button" className="danger" disabled={isBusy} onClick={() => end(sessions)}>
                    {at("endAllSessions")}
                </button>
            )}
        </section>
    );
}

// Parts that several screens of the console have.
import { CallError, type moderation } from "@posthouse/client";
import { useEffect, useRef, useState, type ReactNode, type RefObject } from "react";
import { href } from "../../place";
import type { Listing } from "../../state/admin/listing";
import type { DraftTerms } from "../../state/admin/rule-draft";
import { useSource } from "../../shared/source";
import { usePage, useText, useWorkspace } from "../context";
import { useUserName } from "../names";
import { Area, Avatar, Dialog, errorOf, Name, Select as PlainSelect, useCall } from "../parts";
import { useAdmin, useAdminText } from "./context";

/** A screen, whose heading has the focus when it is opened: a screen reader says where the user is. */
export function Screen({
    title,
    back,
    children,
}: {
    title: string;
    back?: { href: string; label: string };
    children: ReactNode;
}): ReactNode {
    const heading = useRef<HTMLHeadingElement>(null);
    useEffect(() => heading.current?.focus(), []);
    return (
        <section className="admin-screen">
            {back && <a href={back.href}>{back.label}</a>}
            <h2 ref={heading} tabIndex={-1}>
                {title}
            </h2>
            {children}
        </section>
    );
}

/** What went wrong, with the messenger's own words: a moderator can do something with them. */
export function AdminError({ error }: { error: unknown }): ReactNode {
    const t = useText();
    const at = useAdminText();
    if (error === undefined) return null;
    const { key } = errorOf(error);
    const problem = error instanceof CallError ? error.problem : undefined;
    return (
        <p className="error" role="alert">
            {problem?.code === "permission_denied" ? at("refused") : t(key)} {problem?.detail}
        </p>
    );
}

/** A list with its pages: what is there, that it is empty, that more can be read, and what went wrong. */
export function Listed<T>({
    list,
    empty,
    children,
}: {
    list: Listing<T>;
    empty: string;
    children: (item: T) => ReactNode;
}): ReactNode {
    const t = useText();
    const { items, isRead, isLoading, error, hasMore } = useSource(list);
    return (
        <>
            <AdminError error={error} />
            <ul className="admin-list" aria-busy={isLoading}>
                {items.map(children)}
            </ul>
            <p role="status" className="hint">
                {isLoading ? t("loading") : isRead && items.length === 0 ? empty : ""}
            </p>
            {error !== undefined && (
                <button type="button" onClick={() => void (hasMore ? list.more() : list.open())}>
                    {t("tryAgain")}
                </button>
            )}
            {hasMore && error === undefined && (
                <button type="button" disabled={isLoading} onClick={() => void list.more()}>
                    {t("more")}
                </button>
            )}
        </>
    );
}

/** A user, by all that tells them apart from one with a like name, and where the console says more of them. */
export function User({ id }: { id: string }): ReactNode {
    const { users } = useWorkspace();
    useSource(users);
    const name = useUserName()(id);
    return (
        <a className="admin-user" href={href({ admin: "users", of: id })}>
            <Avatar id={id} name={name} />
            <Name text={name} /> <span className="username">@{users.get(id)?.username ?? "…"}</span>
        </a>
    );
}

/** Returns what says of a user whether they are a moderator; no one is until the messenger has said who they are. */
export function useModerators(): (user: string) => boolean {
    const { moderators } = useAdmin();
    const { items } = useSource(moderators);
    useEffect(() => {
        if (!moderators.isRead && !moderators.isLoading) void moderators.open();
    }, [moderators]);
    return (id) => items.some(({ user }) => user === id);
}

/** A chat of the user by its name, and any other one by its id: moderators are not in every chat. */
export function ChatName({ id }: { id: string }): ReactNode {
    const at = useAdminText();
    const { chats } = useWorkspace();
    const chat = useSource(chats).get(id);
    if (chat?.title) return <Name text={chat.title} />;
    return (
        <span className="admin-id" title={id}>
            {at("chatById", { id: id.slice(0, 8) })}
        </span>
    );
}

/** Terms and what they are, of which absent ones are left out. */
export function Facts({ facts }: { facts: Array<[string, ReactNode]> }): ReactNode {
    const shown = facts.filter(
        ([, value]) => value !== undefined && value !== null && value !== false && value !== "",
    );
    return (
        <dl className="admin-facts">
            {shown.map(([term, value]) => (
                <div key={term}>
                    <dt>{term}</dt>
                    <dd>{value}</dd>
                </div>
            ))}
        </dl>
    );
}

export function Moment({ at }: { at: number }): ReactNode {
    const { texts } = usePage();
    return (
        <time dateTime={new Date(at).toISOString()} title={texts.moment(at)}>
            {texts.ago(at, Date.now())}
        </time>
    );
}

/** Of a longer text its beginning is shown: a message may have 16 KiB, and a list many of them. */
const SHOWN_CHARS = 1_000;

/** A text of a stranger, as it is. */
export function Quote({ text }: { text: string }): ReactNode {
    const t = useText();
    const [isWhole, setIsWhole] = useState(false);
    const characters = [...text];
    const isCut = !isWhole && characters.length > SHOWN_CHARS;
    return (
        <>
            <blockquote className="admin-quote" dir="auto">
                {isCut ? `${characters.slice(0, SHOWN_CHARS).join("")}…` : text}
            </blockquote>
            {isCut && (
                <button type="button" className="link" onClick={() => setIsWhole(true)}>
                    {t("more")}
                </button>
            )}
        </>
    );
}

export function Select<V extends string>({
    label,
    value,
    options,
    onChange,
}: {
    label: string;
    value: V;
    options: ReadonlyArray<readonly [V, string]>;
    onChange: (value: V) => void;
}): ReactNode {
    return (
        <PlainSelect label={label} value={value} onChange={(event) => onChange(event.target.value as V)}>
            {options.map(([option, text]) => (
                <option key={option} value={option}>
                    {text}
                </option>
            ))}
        </PlainSelect>
    );
}

export function Check({
    label,
    checked,
    onChange,
}: {
    label: string;
    checked: boolean;
    onChange: (checked: boolean) => void;
}): ReactNode {
    return (
        <label className="check">
            <input type="checkbox" checked={checked} onChange={(event) => onChange(event.target.checked)} />
            {label}
        </label>
    );
}

/** How long a sanction holds: seconds, or empty for good. */
const SPANS = ["3600", "86400", "604800", "2592000", "31536000", ""] as const;

/** What a user gets. `canBeNone` where a decision may do without. */
export function TermsFields({
    terms,
    onChange,
    canBeNone,
    hasScope = true,
}: {
    terms: DraftTerms;
    onChange: (terms: DraftTerms) => void;
    canBeNone: boolean;
    hasScope?: boolean;
}): ReactNode {
    const at = useAdminText();
    const { texts } = usePage();
    const kinds = ["warning", "mute", "ban"] as const;
    // One that was read from a set may be of another length.
    const spans = (SPANS as readonly string[]).includes(terms.seconds) ? SPANS : [terms.seconds, ...SPANS];
    return (
        <>
            <Select
                label={at("sanction")}
                value={terms.kind}
                options={[
                    ...(canBeNone ? [["", at("sanction.none")] as const] : []),
                    ...kinds.map((kind) => [kind, at(`sanction.${kind}`)] as const),
                ]}
                onChange={(kind) => onChange({ ...terms, kind })}
            />
            {terms.kind !== "" && terms.kind !== "warning" && (
                <Select
                    label={at("span")}
                    value={terms.seconds}
                    options={spans.map(
                        (seconds) =>
                            [seconds, seconds === "" ? at("forGood") : texts.span(Number(seconds))] as const,
                    )}
                    onChange={(seconds) => onChange({ ...terms, seconds })}
                />
            )}
            {hasScope && terms.kind !== "" && terms.kind !== "warning" && (
                <Check
                    label={at("everywhere")}
                    checked={terms.everywhere}
                    onChange={(everywhere) => onChange({ ...terms, everywhere })}
                />
            )}
            {terms.kind === "ban" && terms.everywhere && <p className="hint">{at("banEverywhereHint")}</p>}
        </>
    );
}

/** Asks before what cannot be taken back, with what follows from it. */
export function Confirm({
    title,
    text,
    action,
    isBusy,
    error,
    onConfirm,
    onClose,
    children,
}: {
    title: string;
    text: string;
    action: string;
    isBusy: boolean;
    error: unknown;
    onConfirm: () => void;
    onClose: () => void;
    children?: ReactNode;
}): ReactNode {
    const t = useText();
    return (
        <Dialog title={title} onClose={onClose}>
            <p>{text}</p>
            {children}
            <AdminError error={error} />
            <div className="row">
                <button type="button" className="danger" disabled={isBusy} onClick={onConfirm}>
                    {action}
                </button>
                <button type="button" onClick={onClose}>
                    {t("cancel")}
                </button>
            </div>
        </Dialog>
    );
}

/** Returns what a sanction is, in words. */
export function useSanctionText(): (sanction: moderation.Sanction) => string {
    const at = useAdminText();
    const { texts } = usePage();
    return ({ kind, chat, until_ms }) =>
        texts.list([
            at(`sanction.${kind}`),
            ...(kind === "warning"
                ? []
                : [
                      chat == null ? at("everywhereShort") : at("inOneChat"),
                      until_ms == null ? at("forGood") : at("until", { when: texts.moment(until_ms) }),
                  ]),
        ]);
}

/** Reports whether a sanction holds at this moment. A warning forbids nothing, and holds until it is lifted. */
export function isInForce({ lifted, until_ms }: moderation.Sanction, nowMs: number): boolean {
    return lifted == null && (until_ms == null || until_ms > nowMs);
}

export function DecisionText({ decision }: { decision: moderation.Decision }): ReactNode {
    const at = useAdminText();
    return (
        <div className="admin-decision">
            <span>
                {at("decidedBy")} {decision.by == null ? at("nobody") : <User id={decision.by} />}{" "}
                <Moment at={decision.at_ms} />
            </span>
            {decision.note !== "" && <Quote text={decision.note} />}
        </div>
    );
}

/** A screen with what is to be decided and what was, narrowed by its state; at first it is of the first state. */
export function DecisionScreen<T extends { id: string }, S extends string>({
    title,
    list,
    states,
    textOf,
    empty,
    children,
}: {
    title: string;
    list: Listing<T>;
    states: readonly [S, ...S[]];
    textOf: (state: S) => string;
    empty: string;
    children: (item: T) => ReactNode;
}): ReactNode {
    const at = useAdminText();
    const [state, setState] = useState<S>(states[0]);
    useEffect(() => void list.open({ state }), [list, state]);
    return (
        <Screen title={title}>
            <div className="row">
                <Select
                    label={at("show")}
                    value={state}
                    options={states.map((name) => [name, textOf(name)] as const)}
                    onChange={setState}
                />
                <button type="button" onClick={() => void list.open()}>
                    {at("readAgain")}
                </button>
            </div>
            <Listed list={list} empty={empty}>
                {(item) => <li key={item.id}>{children(item)}</li>}
            </Listed>
        </Screen>
    );
}

/** What is decided of a user: `form` until it is, and then the decision. */
export function DecisionCard({
    user,
    state,
    stateText,
    decision,
    form,
    children,
}: {
    user: string;
    state: string;
    stateText: string;
    decision: moderation.Decision | null | undefined;
    form: ReactNode;
    children: ReactNode;
}): ReactNode {
    const card = useFocusWhen<HTMLElement>(decision != null);
    return (
        <article ref={card} tabIndex={-1} className="admin-card" data-state={state}>
            <header>
                <User id={user} />
                <span className="role">{stateText}</span>
            </header>
            {children}
            {decision ? <DecisionText decision={decision} /> : form}
        </article>
    );
}

/** What a moderator decides, with a note. */
export function DecisionForm({
    yes,
    no,
    yesClass,
    onDecided,
    children,
}: {
    yes: string;
    no: string;
    yesClass: "primary" | "danger";
    onDecided: (isYes: boolean, note: string) => Promise<void>;
    children?: ReactNode;
}): ReactNode {
    const at = useAdminText();
    const { isBusy, error, run } = useCall();
    const [note, noteField] = useNote(at("note"), at("noteHint"));
    const decide = (isYes: boolean) => run(() => onDecided(isYes, note));
    return (
        <form
            onSubmit={(event) => {
                event.preventDefault();
                decide(true);
            }}
        >
            {children}
            {noteField}
            <AdminError error={error} />
            <div className="row">
                <button type="submit" className={yesClass} disabled={isBusy}>
                    {yes}
                </button>
                <button type="button" disabled={isBusy} onClick={() => decide(false)}>
                    {no}
                </button>
            </div>
        </form>
    );
}

/** Puts the focus on an element once something is so, when what had the focus went with it: the keyboard goes on from there. */
export function useFocusWhen<E extends HTMLElement>(isSo: boolean): RefObject<E | null> {
    const ref = useRef<E>(null);
    const was = useRef(isSo);
    useEffect(() => {
        const isLost = document.activeElement === null || document.activeElement === document.body;
        if (isSo && !was.current && isLost) ref.current?.focus();
        was.current = isSo;
    }, [isSo]);
    return ref;
}

/** Returns a note that is written, and how it is asked for. */
export function useNote(label: string, hint?: string): [string, ReactNode, (note: string) => void] {
    const [note, setNote] = useState("");
    const field = (
        <Area
            label={label}
            hint={hint}
            value={note}
            maxLength={1_000}
            onChange={(event) => setNote(event.target.value)}
        />
    );
    return [note, field, setNote];
}

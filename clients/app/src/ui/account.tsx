// The account in the settings: how others see the user, what they learn, how it is signed in to, and its end.
import { account, type auth, type moderation, type user } from "@posthouse/client";
import { useEffect, useState, type FormEvent, type ReactNode } from "react";
import { useSource } from "../shared/source";
import { isInForce } from "../state/standing";
import { UserAvatar } from "./avatar";
import { usePage, useText, useWorkspace } from "./context";
import { useChatName, useUserName } from "./names";
import { Area, ErrorText, Field, SavedForm, SaveRow, Select, useCall } from "./parts";
import { PicturePicker } from "./picture-picker";

const CONTACTABLE_BY: readonly user.ContactableBy[] = ["everyone", "shared_chats", "nobody"];
const PRESENCE_VISIBLE_TO: readonly user.PresenceVisibleTo[] = [
    ...(["everyone", "shared_chats", "contacts", "nobody"] as const),
];
/** For how long a status is shown, in seconds; 0 until it is changed. */
const STATUS_LIVES = [0, 1_800, 3_600, 14_400, 86_400, 604_800] as const;
/** Statuses that are chosen with one click. */
const STATUS_EMOJIS = ["💬", "🍽️", "🏖️", "🤒", "🚗", "🎧", "🏠", "🔕"];
/** By the messenger. */
const MAX_ABOUT_CHARACTERS = 500;
const MAX_STATUS_CHARACTERS = 100;
const MAX_APPEAL_CHARACTERS = 2_000;
/** The refusal of a password is no end of a session, and nothing that the user may not do. */
const PASSWORD_ERRORS = {
    permission_denied: "account.wrongPassword",
    unauthenticated: "account.wrongPassword",
} as const;

/** How others see the user, beside the name. */
export function ProfileDetails(): ReactNode {
    const { config } = usePage();
    const { self, user } = useWorkspace();
    const name = useUserName()(user);
    return (
        <section>
            {config.services.includes("media") && (
                <PicturePicker
                    onChosen={(picture) => self.setPicture(picture)}
                    onRemoved={() => self.removePicture()}
                >
                    <UserAvatar user={user} name={name} />
                </PicturePicker>
            )}
            <Status />
            <About />
        </section>
    );
}

function Status(): ReactNode {
    const t = useText();
    const { texts } = usePage();
    const { self } = useWorkspace();
    const { status } = useSource(self).profile;
    const { isBusy, error, run } = useCall();
    const [emoji, setEmoji] = useState(status?.emoji ?? "");
    const [text, setText] = useState(status?.text ?? "");
    const [life, setLife] = useState(0);
    const [isSaved, setIsSaved] = useState(false);
    const set = (next: user.SetStatus) =>
        run(async () => {
            await self.update({ status: next });
            setIsSaved(true);
        });
    return (
        <form
            onChange={() => setIsSaved(false)}
            onSubmit={(event) => {
                event.preventDefault();
                const words = text.trim();
                set({
                    ...(emoji !== "" && { emoji }),
                    ...(words !== "" && { text: words }),
                    ...(life > 0 && { expires_in_seconds: life }),
                });
            }}
        >
            <h3>{t("status.title")}</h3>
            <Select label={t("status.emoji")} value={emoji} onChange={(event) => setEmoji(event.target.value)}>
                <option value="">{t("status.noEmoji")}</option>
                {[...new Set([...STATUS_EMOJIS, ...(emoji === "" ? [] : [emoji])])].map((one) => (
                    <option key={one} value={one}>
                        {one}
                    </option>
                ))}
            </Select>
            <Field
                label={t("status.text")}
                dir="auto"
                maxLength={MAX_STATUS_CHARACTERS}
                value={text}
                onChange={(event) => setText(event.target.value)}
            />
            <Select
                label={t("status.life")}
                value={life}
                onChange={(event) => setLife(Number(event.target.value))}
            >
                {STATUS_LIVES.map((seconds) => (
                    <option key={seconds} value={seconds}>
                        {seconds === 0 ? t("status.untilChanged") : texts.span(seconds)}
                    </option>
                ))}
            </Select>
            <ErrorText error={error} />
            <SaveRow isBusy={isBusy} isSaved={isSaved}>
                {status && (
                    <button
                        type="button"
                        disabled={isBusy}
                        onClick={() => {
                            setEmoji("");
                            setText("");
                            set({});
                        }}
                    >
                        {t("status.remove")}
                    </button>
                )}
            </SaveRow>
        </form>
    );
}

function About(): ReactNode {
    const t = useText();
    const { self } = useWorkspace();
    return (
        <SavedForm save={(form) => self.update({ about: String(form.get("about")).trim() })}>
            <Area
                label={t("account.about")}
                name="about"
                dir="auto"
                maxLength={MAX_ABOUT_CHARACTERS}
                defaultValue={self.profile.about}
            />
        </SavedForm>
    );
}

/** Who reaches the user, and what others learn. Each choice is set at once. */
export function Privacy(): ReactNode {
    const t = useText();
    const { preferences } = usePage();
    const { self } = useWorkspace();
    const { profile } = useSource(self);
    const { showsPreviews } = useSource(preferences);
    const { isBusy, error, run } = useCall();
    const set = (request: user.UpdateProfileRequest) => run(() => self.update(request));
    return (
        <section>
            <h3>{t("privacy.title")}</h3>
            <Select
                label={t("privacy.contactableBy")}
                value={profile.contactable_by}
                disabled={isBusy}
                onChange={({ target }) => set({ contactable_by: target.value as user.ContactableBy })}
            >
                {CONTACTABLE_BY.map((name) => (
                    <option key={name} value={name}>
                        {t(`privacy.${name}`)}
                    </option>
                ))}
            </Select>
            <Select
                label={t("privacy.presence")}
                value={profile.presence_visible_to ?? "everyone"}
                disabled={isBusy}
                onChange={({ target }) => set({ presence_visible_to: target.value as user.PresenceVisibleTo })}
            >
                {PRESENCE_VISIBLE_TO.map((name) => (
                    <option key={name} value={name}>
                        {t(`privacy.${name}`)}
                    </option>
                ))}
            </Select>
            <div className="field">
                <label className="check">
                    <input
                        type="checkbox"
                        checked={profile.read_receipts !== false}
                        disabled={isBusy}
                        onChange={({ target }) => set({ read_receipts: target.checked })}
                    />
                    {t("privacy.receipts")}
                </label>
                <label className="check">
                    <input
                        type="checkbox"
                        checked={showsPreviews}
                        onChange={({ target }) => preferences.set({ showsPreviews: target.checked })}
                    />
                    {t("privacy.previews")}
                </label>
            </div>
            <ErrorText error={error} />
        </section>
    );
}

/** What moderators decided about the user, and what the user says to it. */
export function Sanctions(): ReactNode {
    const t = useText();
    const { standing } = useWorkspace();
    const { sanctions } = useSource(standing);
    const isPossible = usePage().config.services.includes("moderation");
    useEffect(() => {
        if (isPossible) void standing.load();
    }, [standing, isPossible]);
    if (sanctions.length === 0) return null;
    return (
        <section>
            <h3>{t("sanctions.title")}</h3>
            <ul className="scheduled">
                {sanctions.map((sanction) => (
                    <li key={sanction.id}>
                        <SanctionItem sanction={sanction} />
                    </li>
                ))}
            </ul>
        </section>
    );
}

function SanctionItem({ sanction }: { sanction: moderation.Sanction }): ReactNode {
    const t = useText();
    const { texts } = usePage();
    const { standing, chats } = useWorkspace();
    const chatName = useChatName();
    const { isBusy, error, run } = useCall();
    const { id, kind, chat, note, until_ms, created_at_ms, lifted } = sanction;
    const where = chat == null ? undefined : chats.get(chat);
    const appeal = standing.appealOf(id);
    const holds = isInForce(sanction, Date.now());
    return (
        <>
            <p>
                <strong>{t(`sanction.${kind}`)}</strong>{" "}
                {chat == null ? t("sanction.everywhere") : where && <bdi>{chatName(where)}</bdi>}
            </p>
            <p className="hint">
                {texts.date(created_at_ms)}
                {kind !== "warning" &&
                    ` · ${until_ms == null ? t("sanction.forGood") : t("sanction.until", { when: texts.date(until_ms) })}`}
                {lifted != null && ` · ${t("sanction.lifted", { when: texts.date(lifted.at_ms) })}`}
            </p>
            {note !== "" && <p dir="auto">{note}</p>}
            {appeal && (
                <p className="hint">
                    {t(`appeal.${appeal.state}`)} {appeal.decision?.note}
                </p>
            )}
            {!appeal && (holds || kind === "warning") && lifted == null && (
                <form
                    onSubmit={(event) => {
                        event.preventDefault();
                        const text = String(new FormData(event.currentTarget).get("appeal")).trim();
                        if (text !== "") run(() => standing.appeal(id, text));
                    }}
                >
                    <Area
                        label={t("appeal.text")}
                        name="appeal"
                        rows={2}
                        dir="auto"
                        required
                        maxLength={MAX_APPEAL_CHARACTERS}
                    />
                    <ErrorText error={error} />
                    <button type="submit" disabled={isBusy}>
                        {t("appeal.send")}
                    </button>
                </form>
            )}
        </>
    );
}

/** How the account is signed in to, and its end. */
export function Access(): ReactNode {
    return (
        <>
            <Password />
            <Address />
            <Deletion />
        </>
    );
}

function Password(): ReactNode {
    const t = useText();
    const { identity } = useWorkspace();
    const { isBusy, error, run } = useCall();
    const [changed, setChanged] = useState<{ email?: string | null }>();
    const submit = (event: FormEvent<HTMLFormElement>) => {
        event.preventDefault();
        const element = event.currentTarget;
        const form = new FormData(element);
        run(async () => {
            const answer = await account.changePassword(
                identity,
                String(form.get("current")),
                String(form.get("next")),
            );
            setChanged(answer ?? {});
            element.reset();
        });
    };
    return (
        <form onSubmit={submit} onChange={() => setChanged(undefined)} aria-busy={isBusy}>
            <h3>{t("account.password")}</h3>
            <PasswordField name="current" label={t("account.currentPassword")} />
            <Field
                label={t("newPassword")}
                name="next"
                type="password"
                autoComplete="new-password"
                required
                minLength={8}
                hint={t("passwordRule")}
            />
            <ErrorText error={error} here={PASSWORD_ERRORS} />
            <button type="submit" disabled={isBusy}>
                {t("account.changePassword")}
            </button>
            <p role="status">
                {changed && t("account.passwordChanged")}{" "}
                {changed?.email && t("account.recoveryAddress", { email: changed.email })}
            </p>
        </form>
    );
}

function Address(): ReactNode {
    const t = useText();
    const { identity } = useWorkspace();
    const { isBusy, error, run } = useCall();
    const [known, setKnown] = useState<auth.OwnEmailAddress>();
    const [sentTo, setSentTo] = useState<string>();
    useEffect(() => run(async () => setKnown(await account.email(identity))), [identity]);
    const submit = (event: FormEvent<HTMLFormElement>) => {
        event.preventDefault();
        const element = event.currentTarget;
        const form = new FormData(element);
        const address = String(form.get("email")).trim();
        run(async () => {
            await account.setEmail(identity, address, String(form.get("current")));
            setSentTo(address);
            element.reset();
        });
    };
    return (
        <form onSubmit={submit} onChange={() => setSentTo(undefined)} aria-busy={isBusy}>
            <h3>{t("email")}</h3>
            {known && (
                <p>
                    {known.email == null ? t("account.noEmail") : <bdi>{known.email}</bdi>}{" "}
                    {known.email != null && (
                        <small className="hint">
                            {t(known.is_confirmed ? "account.confirmed" : "account.unconfirmed")}
                        </small>
                    )}
                </p>
            )}
            <Field
                label={t("account.newEmail")}
                name="email"
                type="email"
                autoComplete="email"
                required
                hint={t("account.emailHint")}
            />
            <PasswordField name="current" label={t("account.currentPassword")} />
            <ErrorText error={error} here={PASSWORD_ERRORS} />
            <button type="submit" disabled={isBusy}>
                {t("submit.forgot")}
            </button>
            <p role="status">{sentTo !== undefined && t("account.linkSent", { email: sentTo })}</p>
        </form>
    );
}

function Deletion(): ReactNode {
    const t = useText();
    const workspace = useWorkspace();
    const { isBusy, error, run } = useCall();
    const [isAsked, setIsAsked] = useState(false);
    const submit = (event: FormEvent<HTMLFormElement>) => {
        event.preventDefault();
        const form = new FormData(event.currentTarget);
        run(() => workspace.deleteAccount(String(form.get("current"))));
    };
    return (
        <section>
            <h3>{t("account.delete")}</h3>
            <p className="hint">{t("account.deleteExplained")}</p>
            {isAsked ? (
                <form onSubmit={submit} aria-busy={isBusy}>
                    <PasswordField name="current" label={t("account.currentPassword")} autoFocus />
                    <label className="check">
                        <input type="checkbox" required />
                        {t("account.deleteSure")}
                    </label>
                    <ErrorText error={error} here={PASSWORD_ERRORS} />
                    <div className="row">
                        <button type="button" onClick={() => setIsAsked(false)}>
                            {t("cancel")}
                        </button>
                        <button type="submit" className="danger" disabled={isBusy}>
                            {t("account.delete")}
                        </button>
                    </div>
                </form>
            ) : (
                <button type="button" className="danger" onClick={() => setIsAsked(true)}>
                    {t("account.deleteBegin")}
                </button>
            )}
        </section>
    );
}

function PasswordField(props: { name: string; label: string; autoFocus?: boolean }): ReactNode {
    return <Field type="password" autoComplete="current-password" required {...props} />;
}

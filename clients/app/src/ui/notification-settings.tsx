// Of what the user is notified, when, and where: in browsers, at a server of theirs, by mail and by text message.
import type { notification } from "@posthouse/client";
import { useId, useState, type ReactNode } from "react";
import { useRead } from "../shared/call";
import { copy } from "../shared/clipboard";
import type { Preferences, Subscription } from "../state/notices";
import { useSource } from "../shared/source";
import { usePage, useText, useWorkspace } from "./context";
import { NotifyHere } from "./notify-here";
import { Dialog, ErrorText, Field, IconButton, Name, SavedForm, Select, useCall } from "./parts";

const LEVELS: readonly notification.NotificationLevel[] = ["all", "mentions", "none"];
/** What quiet hours are at first. */
const NIGHT = { from: "22:00", to: "07:00" };
/** What refusals of a code mean. */
const CODE_ERRORS = { conflict: "notices.codeOver", permission_denied: "notices.wrongCode" } as const;

export default function NotificationSettings({ onClose }: { onClose: () => void }): ReactNode {
    const t = useText();
    const { config } = usePage();
    const { notices, push } = useWorkspace();
    const { preferences } = useSource(notices);
    const { own } = useSource(push);
    const hasService = config.services.includes("notification");
    // A panel that is opened again looks again, and this browser may come or go meanwhile.
    const { error } = useRead(async () => {
        if (hasService) await notices.load();
    }, [notices, hasService, own]);
    return (
        <Dialog title={t("notices.title")} onClose={onClose}>
            <section>
                <h3>{t("notices.here")}</h3>
                <NotifyHere />
            </section>
            <ErrorText error={error} />
            {hasService && !preferences && error === undefined && <p className="hint">{t("loading")}</p>}
            {preferences && <What preferences={preferences} />}
            {preferences && <Where />}
        </Dialog>
    );
}

/** Of what and when. */
function What({ preferences }: { preferences: Preferences }): ReactNode {
    const t = useText();
    const { notices } = useWorkspace();
    const [isQuiet, setIsQuiet] = useState(preferences.quiet != null);
    const here = Intl.DateTimeFormat().resolvedOptions().timeZone;
    const quiet = preferences.quiet ?? { ...NIGHT, time_zone: here };
    const save = (form: FormData) => {
        const field = (name: string) => String(form.get(name) ?? "");
        return notices.set({
            level: LEVELS.find((known) => known === field("level")) ?? "all",
            shows_text: form.has("shows_text"),
            ...(isQuiet && { quiet: { from: field("from"), to: field("to"), time_zone: field("time_zone") } }),
        });
    };
    return (
        <SavedForm save={save}>
            <h3>{t("notices.what")}</h3>
            <Select label={t("notices.level")} name="level" defaultValue={preferences.level}>
                {LEVELS.map((name) => (
                    <option key={name} value={name}>
                        {t(`level.${name}`)}
                    </option>
                ))}
            </Select>
            <div className="field">
                <label className="check">
                    <input type="checkbox" name="shows_text" defaultChecked={preferences.shows_text} />
                    {t("notices.showsText")}
                </label>
                <small className="hint">{t("notices.showsTextHint")}</small>
            </div>
            <label className="check">
                <input
                    type="checkbox"
                    checked={isQuiet}
                    onChange={(event) => setIsQuiet(event.target.checked)}
                />
                {t("notices.quiet")}
            </label>
            {isQuiet && (
                <>
                    <div className="row">
                        <Field
                            label={t("notices.from")}
                            name="from"
                            type="time"
                            required
                            defaultValue={quiet.from}
                        />
                        <Field label={t("notices.to")} name="to" type="time" required defaultValue={quiet.to} />
                    </div>
                    <Select label={t("notices.zone")} name="time_zone" defaultValue={quiet.time_zone}>
                        {zones(quiet.time_zone, here).map((name) => (
                            <option key={name}>{name}</option>
                        ))}
                    </Select>
                </>
            )}
        </SavedForm>
    );
}

/** Returns the names of time zones: those that the browser knows, and those that are needed anyway. */
function zones(...needed: string[]): string[] {
    return [...new Set([...Intl.supportedValuesOf("timeZone"), ...needed])].sort();
}

/** Where: the list, and what may be added. */
function Where(): ReactNode {
    const t = useText();
    const { say } = usePage();
    const { notices } = useWorkspace();
    const { subscriptions, channels } = useSource(notices);
    /** A new webhook, until this panel is closed. */
    const [fresh, setFresh] = useState<Subscription>();
    const { error, run, isBusy } = useCall();
    const remove = (subscription: Subscription, name: string) =>
        run(async () => {
            await notices.remove(subscription.id);
            if (fresh?.id === subscription.id) setFresh(undefined);
            say(t("notices.removed", { name }));
        });
    return (
        <section>
            <h3>{t("notices.where")}</h3>
            {subscriptions.length === 0 && <p className="hint">{t("notices.nowhere")}</p>}
            <ul className="sessions">
                {subscriptions.map((subscription) => (
                    <Place
                        key={subscription.id}
                        subscription={subscription}
                        isBusy={isBusy}
                        onRemove={remove}
                    />
                ))}
            </ul>
            <ErrorText error={error} />
            {fresh?.secret && <Secret name={fresh.name} secret={fresh.secret} />}
            {channels?.email && (
                <Adding
                    title={t("notices.addEmail")}
                    label={t("email")}
                    type="email"
                    target={(address) => ({ email: { address } })}
                    onAdded={({ name, confirmed }) => !confirmed && say(t("notices.mailSent", { name }))}
                />
            )}
            {channels?.sms && (
                <Adding
                    title={t("notices.addPhone")}
                    label={t("notices.phone")}
                    hint={t("notices.phoneHint")}
                    type="tel"
                    target={(number) => ({ sms: { number } })}
                    onAdded={({ name, confirmed }) => !confirmed && say(t("notices.codeSent", { name }))}
                />
            )}
            <Adding
                title={t("notices.addWebhook")}
                label={t("notices.url")}
                hint={t("notices.urlHint")}
                type="url"
                target={(url) => ({ webhook: { url } })}
                onAdded={setFresh}
            />
        </section>
    );
}

type PlaceProps = {
    subscription: Subscription;
    isBusy: boolean;
    onRemove: (subscription: Subscription, name: string) => void;
};

function Place({ subscription, isBusy, onRemove }: PlaceProps): ReactNode {
    const t = useText();
    const { texts, preferences } = usePage();
    const { push, notices } = useWorkspace();
    const { own } = useSource(push);
    const { id, channel, confirmed, created_at_ms } = subscription;
    const isOwn = id === own;
    const name = isOwn ? t("notices.thisBrowser") : subscription.name;
    const again = useCall();
    /** The browser gives it up, too, and does not come back with the next page. */
    const endHere = () => {
        preferences.set({ notifies: false });
        return push.end();
    };
    return (
        <li>
            <div className="place">
                <span>
                    {t(`channel.${channel}`)}: <Name text={name} />{" "}
                    <small>{t("notices.since", { when: texts.day(created_at_ms, Date.now()) })}</small>
                </span>
                {!confirmed && channel === "email" && (
                    <>
                        <small className="hint">{t("notices.openMail")}</small>
                        <button
                            type="button"
                            disabled={again.isBusy}
                            onClick={() =>
                                again.run(async () => {
                                    await notices.add({ email: { address: subscription.name } });
                                })
                            }
                        >
                            {t("notices.sendAgain", { name })}
                        </button>
                        <ErrorText error={again.error} />
                    </>
                )}
                {!confirmed && channel === "sms" && <Code subscription={subscription} />}
            </div>
            <IconButton
                icon="trash"
                label={t("remove", { name })}
                disabled={isBusy}
                onClick={() => (isOwn ? again.run(endHere) : onRemove(subscription, name))}
            />
        </li>
    );
}

/** Takes the code of a text message. */
function Code({ subscription: { id, name } }: { subscription: Subscription }): ReactNode {
    const t = useText();
    const { notices } = useWorkspace();
    const { isBusy, error, run } = useCall();
    return (
        <form
            onSubmit={(event) => {
                event.preventDefault();
                const code = String(new FormData(event.currentTarget).get("code") ?? "").trim();
                run(() => notices.confirm(id, code));
            }}
        >
            <Field
                label={t("notices.code", { name })}
                name="code"
                inputMode="numeric"
                autoComplete="one-time-code"
                pattern="[0-9]{6}"
                maxLength={6}
                required
            />
            <ErrorText error={error} here={CODE_ERRORS} />
            <div className="row">
                <button type="submit" disabled={isBusy}>
                    {t("notices.confirm")}
                </button>
                <button
                    type="button"
                    className="link"
                    disabled={isBusy}
                    onClick={() =>
                        run(async () => {
                            await notices.add({ sms: { number: name } });
                        })
                    }
                >
                    {t("notices.sendAgain", { name })}
                </button>
            </div>
        </form>
    );
}

type AddingProps = {
    title: string;
    label: string;
    hint?: string;
    type: string;
    target: (value: string) => notification.CreateSubscriptionRequest;
    onAdded: (added: Subscription) => void;
};

function Adding({ title, label, hint, type, target, onAdded }: AddingProps): ReactNode {
    const t = useText();
    const { notices } = useWorkspace();
    const { isBusy, error, run } = useCall();
    return (
        <form
            aria-label={title}
            onSubmit={(event) => {
                event.preventDefault();
                const form = event.currentTarget;
                const value = String(new FormData(form).get("value") ?? "").trim();
                run(async () => {
                    onAdded(await notices.add(target(value)));
                    form.reset();
                });
            }}
        >
            <h4>{title}</h4>
            <Field label={label} name="value" type={type} required hint={hint} />
            <ErrorText error={error} />
            <div className="row">
                <button type="submit" disabled={isBusy}>
                    {t("notices.add")}
                </button>
            </div>
        </form>
    );
}

/** What the requests of a new webhook are signed with. */
function Secret({ name, secret }: { name: string; secret: string }): ReactNode {
    const t = useText();
    const [isCopied, setIsCopied] = useState(false);
    const id = useId();
    return (
        <div className="secret" role="group" aria-labelledby={id}>
            <strong id={id}>{t("notices.secret", { name })}</strong>
            <code tabIndex={0}>{secret}</code>
            <small className="hint">{t("notices.secretHint")}</small>
            <div className="row">
                <button
                    type="button"
                    // It stands there to be copied by hand.
                    onClick={() => void copy(secret).then(setIsCopied)}
                >
                    {t("notices.copy")}
                </button>
                <span role="status">{isCopied && t("copied")}</span>
            </div>
        </div>
    );
}

// Settings of this browser and of the account.
import type { auth } from "@posthouse/client";
import { lazy, Suspense, useEffect, useId, useState, type ReactNode } from "react";
import { go, usePlace } from "../place";
import { THEMES, type Theme } from "../preferences";
import { useSource } from "../shared/source";
import { LANGUAGE_TAGS, Texts } from "../text/texts";
import { usePage, useText, useWorkspace } from "./context";
import { useUserName } from "./names";
import { NotifyHere } from "./notify-here";
import { Boundary, Dialog, ErrorText, Field, SavedForm, Select, useCall } from "./parts";

const ProfileDetails = lazy(async () => ({ default: (await import("./account")).ProfileDetails }));
const Privacy = lazy(async () => ({ default: (await import("./account")).Privacy }));
const Sanctions = lazy(async () => ({ default: (await import("./account")).Sanctions }));
const Access = lazy(async () => ({ default: (await import("./account")).Access }));

export function Settings({
    onClose,
    onSignOut,
}: {
    onClose: () => void;
    onSignOut: () => Promise<void>;
}): ReactNode {
    const t = useText();
    const { texts, preferences } = usePage();
    useSource(preferences);
    const place = usePlace();
    const { isBusy, error, run } = useCall();
    return (
        <Dialog title={t("settings")} onClose={onClose}>
            <Profile />
            <Boundary fallback={<p role="status">{t("error.offline")}</p>}>
                <Suspense>
                    <ProfileDetails />
                    <Sanctions />
                    <Privacy />
                </Suspense>
            </Boundary>
            <section>
                <h3>{t("appearance")}</h3>
                <Select
                    label={t("language")}
                    value={texts.language}
                    onChange={(event) => preferences.set({ language: event.target.value })}
                >
                    {LANGUAGE_TAGS.map((tag) => (
                        <option key={tag} value={tag} lang={tag}>
                            {Texts.languageName(tag)}
                        </option>
                    ))}
                </Select>
                <Select
                    label={t("theme")}
                    value={preferences.theme}
                    onChange={(event) => preferences.set({ theme: event.target.value as Theme })}
                >
                    {THEMES.map((name) => (
                        <option key={name} value={name}>
                            {t(`theme.${name}`)}
                        </option>
                    ))}
                </Select>
                <NotifyHere />
                <button type="button" onClick={() => go({ ...place, panel: "notifications" })}>
                    {t("notices.open")}
                </button>
            </section>
            <Sessions />
            <Boundary fallback={null}>
                <Suspense>
                    <Access />
                </Suspense>
            </Boundary>
            <ErrorText error={error} />
            <button type="button" className="danger" disabled={isBusy} onClick={() => run(onSignOut)}>
                {t("signOut")}
            </button>
        </Dialog>
    );
}

function Profile(): ReactNode {
    const t = useText();
    const workspace = useWorkspace();
    const name = useUserName()(workspace.user);
    return (
        <SavedForm
            save={(form) =>
                workspace.self.update({ display_name: String(form.get("display_name") ?? "").trim() })
            }
        >
            <h3>{t("profile")}</h3>
            <Field
                label={t("displayName")}
                name="display_name"
                defaultValue={name}
                required
                maxLength={64}
                hint={`@${workspace.me.username}`}
            />
        </SavedForm>
    );
}

function Sessions(): ReactNode {
    const t = useText();
    const { texts } = usePage();
    const workspace = useWorkspace();
    const [sessions, setSessions] = useState<auth.AuthSession[]>([]);
    const { isBusy, error, run } = useCall();
    const id = useId();
    const load = async () => setSessions(await workspace.sessions());
    useEffect(() => run(load), [workspace]);
    return (
        <section>
            <h3>{t("sessions")}</h3>
            <ErrorText error={error} />
            <ul className="sessions">
                {sessions.map(({ session_id, is_current, started_at_ms, last_used_at_ms }) => (
                    <li key={session_id}>
                        <span id={`${id}-${session_id}`}>
                            {is_current
                                ? t("thisSession")
                                : t("sessionUsed", { when: texts.ago(last_used_at_ms, Date.now()) })}{" "}
                            <small>{t("sessionBegun", { when: texts.moment(started_at_ms) })}</small>
                        </span>
                        {!is_current && (
                            <button
                                type="button"
                                aria-describedby={`${id}-${session_id}`}
                                disabled={isBusy}
                                onClick={() =>
                                    run(async () => {
                                        await workspace.endSession(session_id);
                                        await load();
                                    })
                                }
                            >
                                {t("endSession")}
                            </button>
                        )}
                    </li>
                ))}
            </ul>
            {sessions.length > 1 && (
                <button
                    type="button"
                    disabled={isBusy}
                    onClick={() =>
                        run(async () => {
                            await workspace.endOtherSessions();
                            await load();
                        })
                    }
                >
                    {t("endOtherSessions")}
                </button>
            )}
        </section>
    );
}

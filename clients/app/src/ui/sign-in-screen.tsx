// Before the messenger: signing in, a new account, a forgotten password.
import { type auth, type Identity } from "@posthouse/client";
import { useEffect, useState, type FormEvent, type ReactNode } from "react";
import { mailLink, type SignIn } from "../sign-in";
import type { Key } from "../text/texts";
import { usePage, useText } from "./context";
import { LINK_ERRORS } from "./mail-link";
import { ErrorText, Field, useCall } from "./parts";

/** A refusal of the name and the password is no end of a session. */
const SIGN_IN_ERRORS = { unauthenticated: "wrongPassword" } as const;

type Mode = "signIn" | "register" | "forgot" | "reset";

/** `said` is what the user is to know first. */
type Props = { signIn: SignIn; onSignedIn: (identity: Identity) => void; said?: Key };

export function SignInScreen({ signIn, onSignedIn, said }: Props): ReactNode {
    const t = useText();
    const { config, texts } = usePage();
    const [mode, setMode] = useState<Mode>(mailLink()?.kind === "password_reset" ? "reset" : "signIn");
    const [notice, setNotice] = useState(said && t(said));
    const { isBusy, error, run } = useCall();
    useEffect(() => {
        document.title = config.name;
    }, [config.name]);
    const providers = useProviders(signIn);
    useEffect(() => {
        if (!signIn.owesSignOut) return undefined;
        const over = new AbortController();
        void signIn.comeBack(over.signal);
        return () => over.abort();
    }, [signIn]);

    const enter = async (username: string, password: string) => {
        if (signIn.isAtRealm)
            await signIn.goToRealm({ language: texts.language, ...(username !== "" && { username }) });
        else onSignedIn(await signIn.messenger.signIn(username, password));
    };
    const submit = (event: FormEvent<HTMLFormElement>) => {
        event.preventDefault();
        const form = new FormData(event.currentTarget);
        const field = (name: string) => String(form.get(name) ?? "");
        run(async () => {
            switch (mode) {
                case "signIn":
                    return enter(field("username"), field("password"));
                case "register":
                    await signIn.messenger.register(field("username"), field("password"));
                    return enter(field("username"), field("password"));
                case "forgot":
                    await signIn.messenger.call("POST", "/api/auth/password/forgot", {
                        body: { email: field("email") },
                    });
                    setNotice(t("forgotSent"));
                    return setMode("signIn");
                case "reset": {
                    const body = { token: mailLink()?.token, password: field("password") };
                    await signIn.messenger.call("POST", "/api/auth/password/reset", { body });
                    history.replaceState(null, "", "/");
                    setNotice(t("passwordChanged"));
                    return setMode("signIn");
                }
            }
        });
    };
    const asksName = mode === "register" || (mode === "signIn" && !signIn.isAtRealm);
    const asksPassword = asksName || mode === "reset";
    const isNew = mode === "register" || mode === "reset";
    return (
        <main className="centre">
            <form className="card" onSubmit={submit} aria-busy={isBusy}>
                {config.logo !== undefined && <img className="logo" src={config.logo} alt="" />}
                <h1>{t("signInTo", { name: config.name })}</h1>
                {notice !== undefined && <p role="status">{notice}</p>}
                {asksName && (
                    <Field
                        label={t("username")}
                        name="username"
                        autoComplete="username"
                        autoCapitalize="none"
                        spellCheck={false}
                        required
                        autoFocus
                        {...(mode === "register" && {
                            pattern: "[a-z][a-z0-9._\\-]{2,31}",
                            hint: t("usernameRule"),
                        })}
                    />
                )}
                {asksPassword && (
                    <Field
                        label={isNew ? t("newPassword") : t("password")}
                        name="password"
                        type="password"
                        autoComplete={isNew ? "new-password" : "current-password"}
                        required
                        {...(isNew && { minLength: 8, hint: t("passwordRule") })}
                    />
                )}
                {mode === "forgot" && (
                    <Field
                        label={t("email")}
                        name="email"
                        type="email"
                        autoComplete="email"
                        required
                        autoFocus
                    />
                )}
                <ErrorText error={error} here={mode === "reset" ? LINK_ERRORS : SIGN_IN_ERRORS} />
                <button type="submit" className="primary" disabled={isBusy}>
                    {t(`submit.${mode}`)}
                </button>
                {mode === "signIn" &&
                    providers.map(({ alias, display_name }) => (
                        <button
                            key={alias}
                            type="button"
                            onClick={() =>
                                run(() => signIn.goToRealm({ provider: alias, language: texts.language }))
                            }
                        >
                            {t("signInWith", { name: display_name })}
                        </button>
                    ))}
                <div className="row">
                    {mode !== "signIn" && (
                        <button type="button" className="link" onClick={() => setMode("signIn")}>
                            {t("haveAccount")}
                        </button>
                    )}
                    {mode === "signIn" && (
                        <>
                            <button type="button" className="link" onClick={() => setMode("register")}>
                                {t("noAccount")}
                            </button>
                            <button type="button" className="link" onClick={() => setMode("forgot")}>
                                {t("forgotPassword")}
                            </button>
                        </>
                    )}
                </div>
            </form>
        </main>
    );
}

/** Buttons of external identity providers lead to the realm; without it there are none. */
function useProviders(signIn: SignIn): auth.AuthProvider[] {
    const [providers, setProviders] = useState<auth.AuthProvider[]>([]);
    useEffect(() => {
        if (!signIn.isAtRealm) return;
        signIn.messenger.call<auth.Page_AuthProvider>("GET", "/api/auth/providers").then(
            (page) => setProviders(page.items),
            // The page of the realm has the buttons, too.
            () => undefined,
        );
    }, [signIn]);
    return providers;
}

// Where a user gives the token that each call goes on with. Its field is none for passwords, which a browser would offer to keep.
import { useState, type FormEvent, type ReactNode } from "react";
import { namespacesOf, remembered, Session, tokenOf } from "../state/session";
import { useText } from "./context";
import { ErrorText, Field, NameField, useCall } from "./parts";

type Props = { onSignedIn: (session: Session) => void };

export function SignInScreen({ onSignedIn }: Props): ReactNode {
    const t = useText();
    const [token, setToken] = useState("");
    const [namespaces, setNamespaces] = useState(() => remembered().join(" "));
    const { isBusy, error, run } = useCall();
    const names = namespacesOf(namespaces);
    // A browser says false of http to another machine. Where it says nothing, there is no rule to follow.
    if (window.isSecureContext === false) {
        return (
            <main className="centre">
                <h1>{t("title")}</h1>
                <p className="error card" role="alert">
                    {t("insecure")}
                </p>
            </main>
        );
    }
    const submit = (event: FormEvent) => {
        event.preventDefault();
        const given = tokenOf(token);
        if (given === "" || names === undefined) return;
        run(async () => {
            const session = await Session.open(given, names);
            setToken("");
            onSignedIn(session);
        });
    };
    return (
        <main className="centre">
            <form className="card" onSubmit={submit}>
                <h1>{t("title")}</h1>
                <Field
                    label={t("token")}
                    hint={t("token.hint")}
                    className="secret"
                    value={token}
                    required
                    onChange={(event) => setToken(event.target.value)}
                />
                <details>
                    <summary>{t("token.how")}</summary>
                    <p>{t("token.account")}</p>
                    <pre role="group" tabIndex={0} aria-label={t("token.how")}>
                        kubectl create token ACCOUNT -n NAMESPACE --duration=1h
                    </pre>
                    <p>{t("token.oidc")}</p>
                </details>
                <NameField
                    label={t("namespaces")}
                    hint={t("namespaces.hint")}
                    value={namespaces}
                    refusal={names === undefined ? t("namespace.invalid") : undefined}
                    onChange={(event) => setNamespaces(event.target.value)}
                />
                <ErrorText error={error} />
                <button type="submit" className="primary" disabled={isBusy}>
                    {isBusy ? t("loading") : t("signIn")}
                </button>
            </form>
        </main>
    );
}

/** Asks for another token when Kubernetes does not take the one any more. The page stays as it is. */
export function Renewal({ session }: { session: Session }): ReactNode {
    const t = useText();
    const [token, setToken] = useState("");
    const { isBusy, error, run } = useCall();
    const submit = (event: FormEvent) => {
        event.preventDefault();
        const given = tokenOf(token);
        if (given !== "") run(() => session.renew(given));
    };
    return (
        <form className="banner" onSubmit={submit}>
            <p role="alert">{t("ended")}</p>
            <Field
                label={t("token")}
                className="secret"
                value={token}
                required
                onChange={(event) => setToken(event.target.value)}
            />
            <button type="submit" className="primary" disabled={isBusy}>
                {t("signIn")}
            </button>
            <ErrorText error={error} />
        </form>
    );
}

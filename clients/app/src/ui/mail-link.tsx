// What a link in a mail does, before the rest of the page: mails are also read in browsers without a session here.
import { CallError } from "@posthouse/client";
import { useEffect, useRef, type ReactNode } from "react";
import type { MailLink, SignIn } from "../sign-in";
import type { Key } from "../text/texts";
import { usePage, useText } from "./context";
import { ErrorText, useCall } from "./parts";

/** Those that need nothing of the user. A new password is entered at the sign-in. */
type Kind = Exclude<MailLink["kind"], "password_reset">;

const DONE: Record<Kind, Key> = {
    email_confirmation: "addressConfirmed",
    notifications_confirmation: "link.notifications_confirmation",
    notifications_end: "link.notifications_end",
};

/** What refusals of a link mean. */
export const LINK_ERRORS = { conflict: "link.used", not_found: "link.over" } as const;

type Props = { signIn: SignIn; kind: Kind; token: string; onOver: () => void };

export function MailLinkScreen({ signIn, kind, token, onOver }: Props): ReactNode {
    const t = useText();
    const { config } = usePage();
    const { isBusy, error, run } = useCall();
    const hasBegun = useRef(false);
    const open = () =>
        run(async () => {
            await follow(signIn, kind, token);
            // It is good once, and stays in no history.
            history.replaceState(null, "", "/");
        });
    useEffect(() => {
        // An effect runs twice in development, and a link is good once.
        if (hasBegun.current) return;
        hasBegun.current = true;
        open();
    }, []);
    const isDone = hasBegun.current && !isBusy && error === undefined;
    const isOver = error instanceof CallError && !error.isTemporary;
    return (
        <main className="centre">
            <div className="card" aria-busy={isBusy}>
                <h1>{config.name}</h1>
                <p role="status">{isDone ? t(DONE[kind]) : isBusy && t("link.working")}</p>
                <ErrorText error={error} here={LINK_ERRORS} />
                {error !== undefined && !isOver && (
                    <button type="button" className="primary" onClick={open}>
                        {t("tryAgain")}
                    </button>
                )}
                {(isDone || isOver) && (
                    <button
                        type="button"
                        className="primary"
                        onClick={() => {
                            history.replaceState(null, "", "/");
                            onOver();
                        }}
                    >
                        {t("link.toMessenger")}
                    </button>
                )}
            </div>
        </main>
    );
}

async function follow({ messenger }: SignIn, kind: Kind, token: string): Promise<void> {
    switch (kind) {
        case "email_confirmation":
            return messenger.call("POST", "/api/auth/email/confirm", { body: { token } });
        case "notifications_confirmation":
            return messenger.call("POST", "/api/notifications/confirmations", { body: { token } });
        case "notifications_end":
            return messenger.call("POST", `/api/notifications/unsubscriptions/${encodeURIComponent(token)}`);
    }
}

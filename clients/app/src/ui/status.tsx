// What a user is doing at present, as they say it.
import type { user } from "@posthouse/client";
import type { ReactNode } from "react";
import { usePage, useText } from "./context";

export function StatusText({ status }: { status: user.UserStatus }): ReactNode {
    const t = useText();
    const { texts } = usePage();
    const { emoji, text, expires_at_ms } = status;
    if (expires_at_ms != null && expires_at_ms <= Date.now()) return null;
    return (
        <p className="user-status" dir="auto">
            {emoji} {text}{" "}
            {expires_at_ms != null && (
                <small className="hint">{t("status.until", { when: texts.date(expires_at_ms) })}</small>
            )}
        </p>
    );
}

// After the deletion of an account: what shows what is erased.
import type { ReactNode } from "react";
import { useText } from "./context";

export function Farewell({ receipt }: { receipt: string }): ReactNode {
    const t = useText();
    const address = `${location.origin}/api/users/erasures/${receipt}`;
    return (
        <main className="centre">
            <div className="card">
                <h1>{t("account.deleted")}</h1>
                <p role="alert">{t("account.receipt")}</p>
                <p>
                    <a href={address} target="_blank" rel="noopener noreferrer">
                        <bdi dir="ltr" className="address">
                            {address}
                        </bdi>
                    </a>
                </p>
                <button type="button" className="primary" onClick={() => location.assign("/")}>
                    {t("account.leave")}
                </button>
            </div>
        </main>
    );
}

// Says that there is a later release. Nothing that is open changes before the user says so: what is written stays, and files go on.
import { useEffect, type ReactNode } from "react";
import { installed } from "../installed";
import { useSource } from "../shared/source";
import { usePage, useText } from "./context";

export function Updates(): ReactNode {
    const t = useText();
    const { texts } = usePage();
    const { isOutdated } = useSource(installed);
    useEffect(() => void installed.speak(texts.language), [texts.language]);
    return (
        <div role="status">
            {isOutdated && (
                <div className="update">
                    <span>{t("updateReady")}</span>
                    <button type="button" onClick={() => location.reload()}>
                        {t("reload")}
                    </button>
                </div>
            )}
        </div>
    );
}

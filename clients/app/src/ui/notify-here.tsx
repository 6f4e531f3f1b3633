// The switch of notifications on this device: while a page is open by the page, and by pushes while none is.
import { useState, type ReactNode } from "react";
import { useSource } from "../shared/source";
import { usePage, useText, useWorkspace } from "./context";
import { ErrorText, useCall } from "./parts";

/** The browser asks the user when they are switched on, and its answer stands. */
export function NotifyHere(): ReactNode {
    const t = useText();
    const { preferences, config } = usePage();
    const { push } = useWorkspace();
    useSource(preferences);
    useSource(push);
    const isPossible = "Notification" in window;
    const [permission, setPermission] = useState(isPossible ? Notification.permission : "denied");
    const { isBusy, error, run } = useCall();
    const hasPushes = config.services.includes("notification");
    const isOn = preferences.notifies && permission === "granted";
    const set = async (notifies: boolean) => {
        const answer =
            notifies && permission === "default" ? await Notification.requestPermission() : permission;
        setPermission(answer);
        preferences.set({ notifies: notifies && answer === "granted" });
        if (!hasPushes || answer !== "granted") return;
        if (notifies) await push.begin();
        else await push.end();
    };
    return (
        <div className="field">
            <label className="check">
                <input
                    type="checkbox"
                    checked={isOn}
                    disabled={permission === "denied" || isBusy}
                    onChange={(event) => {
                        const notifies = event.target.checked;
                        run(() => set(notifies));
                    }}
                />
                {t("notifications")}
            </label>
            {permission === "denied" && <small className="hint">{t("notificationsDenied")}</small>}
            {isOn && !isBusy && push.own === undefined && <small className="hint">{t("notices.noPush")}</small>}
            <ErrorText error={error} />
        </div>
    );
}

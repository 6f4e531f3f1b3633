// How much there is of what moderators have to do with.
import { useEffect, useState, type ReactNode } from "react";
import { href } from "../../place";
import type { Usage as Figures } from "../../state/admin/admin";
import { usePage, useText } from "../context";
import { useCall } from "../parts";
import { useAdmin, useAdminText } from "./context";
import { AdminError, Facts, Screen } from "./parts";

export function Usage(): ReactNode {
    const t = useText();
    const at = useAdminText();
    const admin = useAdmin();
    const { texts } = usePage();
    const [figures, setFigures] = useState<Figures>();
    const { isBusy, error, run } = useCall();
    const load = () => run(async () => setFigures(await admin.usage()));
    useEffect(load, [admin]);
    return (
        <Screen title={at("screen.usage")}>
            <AdminError error={error} />
            {!figures && isBusy && <p className="hint">{t("loading")}</p>}
            {figures && (
                <Facts
                    facts={[
                        [
                            at("usage.users"),
                            <a key="" href={href({ admin: "users" })}>
                                {texts.number(figures.users)}
                            </a>,
                        ],
                        [
                            at("usage.openReports"),
                            <a key="" href={href({ admin: "queue" })}>
                                {texts.number(figures.open_reports)}
                            </a>,
                        ],
                        [
                            at("usage.openAppeals"),
                            <a key="" href={href({ admin: "appeals" })}>
                                {texts.number(figures.open_appeals)}
                            </a>,
                        ],
                        [at("usage.muted"), texts.number(figures.muted_users)],
                        [at("usage.banned"), texts.number(figures.banned_users)],
                        [
                            at("usage.ruleSets"),
                            <a key="" href={href({ admin: "rules" })}>
                                {texts.number(figures.enforced_rule_sets)}
                            </a>,
                        ],
                        [at("usage.caught"), texts.number(figures.caught)],
                    ]}
                />
            )}
            <div className="row">
                <button type="button" disabled={isBusy} onClick={load}>
                    {at("readAgain")}
                </button>
            </div>
            <p className="hint">{at("usageHint")}</p>
        </Screen>
    );
}

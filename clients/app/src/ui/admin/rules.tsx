// All rule sets, and the draft of a new one.
import { useEffect, useState, type ReactNode } from "react";
import { go, href } from "../../place";
import { newRule, type RuleSetDraft } from "../../state/admin/rule-draft";
import { useSource } from "../../shared/source";
import { useText } from "../context";
import { Name, useCall } from "../parts";
import { useAdmin, useAdminText } from "./context";
import { AdminError, Moment, Screen } from "./parts";
import { DraftForm } from "./rule-draft";

export function Rules(): ReactNode {
    const t = useText();
    const at = useAdminText();
    const { rules } = useAdmin();
    const { sets } = useSource(rules);
    const { error, run } = useCall();
    const [draft, setDraft] = useState<RuleSetDraft>();
    useEffect(() => run(() => rules.load()), [rules]);
    return (
        <Screen title={at("screen.rules")}>
            <p className="hint">{at("rulesHint")}</p>
            <AdminError error={error} />
            {!sets && error === undefined && <p className="hint">{t("loading")}</p>}
            {sets?.length === 0 && <p>{at("noRuleSets")}</p>}
            <ul className="admin-list">
                {sets?.map(({ id, name, state, rules: { length }, created_at_ms }) => (
                    <li key={id} className="row">
                        <a href={href({ admin: "rules", of: id })}>
                            <Name text={name} />
                        </a>
                        <span className="role">{at(`ruleSet.${state}`)}</span>
                        <span className="hint">
                            {at("ruleCount", { count: length })} · <Moment at={created_at_ms} />
                        </span>
                    </li>
                ))}
            </ul>
            {draft ? (
                <DraftForm
                    first={draft}
                    onCreated={({ id }) => go({ admin: "rules", of: id })}
                    onCancel={() => setDraft(undefined)}
                />
            ) : (
                <button
                    type="button"
                    className="primary"
                    onClick={() => setDraft({ name: "", rules: [newRule()] })}
                >
                    {at("newRuleSet")}
                </button>
            )}
        </Screen>
    );
}

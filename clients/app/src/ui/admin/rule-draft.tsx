// A rule set while it is written.
import type { moderation } from "@posthouse/client";
import { useState, type ReactNode } from "react";
import {
    newRule,
    problemOf,
    requestOf,
    TESTS,
    type DraftProblem,
    type DraftRule,
    type RuleSetDraft,
} from "../../state/admin/rule-draft";
import { useText } from "../context";
import { Area, Field, useCall } from "../parts";
import { useAdmin, useAdminText } from "./context";
import { AdminError, Check, Select, TermsFields } from "./parts";

type Props = {
    first: RuleSetDraft;
    onCreated: (set: moderation.RuleSet) => void;
    onCancel: () => void;
};

export function DraftForm({ first, onCreated, onCancel }: Props): ReactNode {
    const t = useText();
    const at = useAdminText();
    const { rules: sets } = useAdmin();
    const [{ name, rules }, setDraft] = useState(first);
    const [problem, setProblem] = useState<DraftProblem>();
    const { isBusy, error, run } = useCall();
    const setRules = (rules: DraftRule[]) => {
        setProblem(undefined);
        setDraft({ name, rules });
    };
    const submit = () => {
        const found = problemOf({ name, rules });
        setProblem(found);
        if (!found) run(async () => onCreated(await sets.create(requestOf({ name, rules }))));
    };
    return (
        <form
            className="admin-card"
            aria-label={at("newRuleSet")}
            onSubmit={(event) => {
                event.preventDefault();
                submit();
            }}
        >
            <Field
                label={at("ruleSetName")}
                value={name}
                maxLength={64}
                autoFocus
                onChange={(event) => {
                    setProblem(undefined);
                    setDraft({ name: event.target.value, rules });
                }}
            />
            {rules.map((rule, index) => (
                <RuleFields
                    key={rule.key}
                    rule={rule}
                    place={index + 1}
                    onChange={(changed) =>
                        setRules(rules.map((known) => (known.key === rule.key ? changed : known)))
                    }
                    onRemove={() => setRules(rules.filter(({ key }) => key !== rule.key))}
                />
            ))}
            <div className="row">
                <button type="button" onClick={() => setRules([...rules, newRule()])}>
                    {at("addRule")}
                </button>
            </div>
            {problem && (
                <p className="error" role="alert">
                    {at(`draft.${problem.what}`, { rule: problem.rule })}
                </p>
            )}
            <AdminError error={error} />
            <div className="row">
                <button type="submit" className="primary" disabled={isBusy}>
                    {at("saveDraft")}
                </button>
                <button type="button" onClick={onCancel}>
                    {t("cancel")}
                </button>
            </div>
        </form>
    );
}

function RuleFields({
    rule,
    place,
    onChange,
    onRemove,
}: {
    rule: DraftRule;
    place: number;
    onChange: (rule: DraftRule) => void;
    onRemove: () => void;
}): ReactNode {
    const at = useAdminText();
    const { name, test, text, isStrict, deletes, reports, terms } = rule;
    const set = (changes: Partial<DraftRule>) => onChange({ ...rule, ...changes });
    return (
        <fieldset>
            <legend>{at("ruleAt", { place })}</legend>
            <Field
                label={at("ruleName")}
                value={name}
                maxLength={64}
                onChange={(event) => set({ name: event.target.value })}
            />
            <Select
                label={at("test")}
                value={test}
                options={TESTS.map((kind) => [kind, at(`test.${kind}`)] as const)}
                onChange={(test) => set({ test })}
            />
            {(test === "words" || test === "links" || test === "attachments") && (
                <Area
                    label={at(`lines.${test}`)}
                    hint={at(`linesHint.${test}`)}
                    dir="auto"
                    spellCheck={false}
                    value={text}
                    onChange={(event) => set({ text: event.target.value })}
                />
            )}
            {test === "pattern" && (
                <Field
                    label={at("pattern")}
                    hint={at("patternHint")}
                    value={text}
                    maxLength={500}
                    spellCheck={false}
                    onChange={(event) => set({ text: event.target.value })}
                />
            )}
            {test === "rate" && (
                <>
                    <Field
                        label={at("rateMessages")}
                        type="number"
                        min={1}
                        value={rule.messages}
                        onChange={(event) => set({ messages: event.target.value })}
                    />
                    <Field
                        label={at("rateSeconds")}
                        type="number"
                        min={1}
                        max={3_600}
                        value={rule.seconds}
                        onChange={(event) => set({ seconds: event.target.value })}
                    />
                </>
            )}
            {test === "classifier" && (
                <>
                    <Field
                        label={at("label")}
                        hint={at("labelHint")}
                        value={text}
                        maxLength={64}
                        onChange={(event) => set({ text: event.target.value })}
                    />
                    <Field
                        label={at("percent")}
                        type="number"
                        min={1}
                        max={100}
                        value={rule.percent}
                        onChange={(event) => set({ percent: event.target.value })}
                    />
                </>
            )}
            {(test === "words" || test === "links" || test === "attachments") && (
                <Check
                    label={at(test === "words" ? "exact" : "allowOnly")}
                    checked={isStrict}
                    onChange={(isStrict) => set({ isStrict })}
                />
            )}
            <Check label={at("doReport")} checked={reports} onChange={(reports) => set({ reports })} />
            <Check label={at("deleteMessage")} checked={deletes} onChange={(deletes) => set({ deletes })} />
            <TermsFields terms={terms} onChange={(terms) => set({ terms })} canBeNone />
            <div className="row">
                <button type="button" className="danger" onClick={onRemove}>
                    {at("removeRule", { place })}
                </button>
            </div>
        </fieldset>
    );
}

// An edit of a manifest: text, plan, and applying it.
import { useEffect, useId, useRef, type ReactNode } from "react";
import { useSource } from "../../../app/src/shared/source";
import { hunks } from "../diff";
import type { Edit, Plan } from "../state/edit";
import { usePage, useText } from "./context";
import { Commands, ErrorText } from "./parts";

type Props = {
    edit: Edit;
    onClose: () => void;
    /** What follows where nothing is left to do here; else the user closes it. */
    onApplied?: () => void;
};

export function EditForm({ edit, onClose, onApplied }: Props): ReactNode {
    const t = useText();
    const { say } = usePage();
    const { text, plan, error, state, isBusy, conflicts, takesOver, isDirty } = useSource(edit);
    const id = useId();
    const field = useRef<HTMLTextAreaElement>(null);
    useEffect(() => field.current?.focus(), []);
    useEffect(() => {
        if (state !== "applied") return;
        if (onApplied) onApplied();
        else say(t("edit.applied"));
        // Once for an edit, whatever the page is rendered for meanwhile.
    }, [state, say, t]);
    useEffect(() => {
        // What was written is not lost with the tab without a word.
        if (!isDirty) return;
        const ask = (event: BeforeUnloadEvent) => event.preventDefault();
        window.addEventListener("beforeunload", ask);
        return () => window.removeEventListener("beforeunload", ask);
    }, [isDirty]);
    const { kind, resource, isNew } = edit.target;
    const file = `${kind}.yaml`;
    const flags = `--server-side --field-manager posthouse-console${takesOver ? " --force-conflicts" : ""}`;
    return (
        <form
            onSubmit={(event) => {
                event.preventDefault();
                void edit.showPlan();
            }}
        >
            <label htmlFor={id}>{t("edit.label")}</label>
            <textarea
                id={id}
                ref={field}
                className="code"
                rows={Math.min(40, text.split("\n").length + 2)}
                value={text}
                readOnly={isBusy}
                spellCheck={false}
                autoCapitalize="none"
                aria-describedby={`${id}-hint`}
                onChange={(event) => edit.write(event.target.value)}
            />
            <small id={`${id}-hint`} className="hint">
                {t("edit.hint")}
            </small>
            {conflicts.length > 0 ? (
                <div role="alert" className="conflict">
                    <h3>{t("conflict")}</h3>
                    <ul>
                        {conflicts.map(({ field, message }) => (
                            <li key={`${field} ${message}`}>
                                <code>{field}</code>: {message}
                            </li>
                        ))}
                    </ul>
                    <p>{t("conflict.what")}</p>
                </div>
            ) : (
                <ErrorText error={error} />
            )}
            {(conflicts.length > 0 || takesOver) && (
                <label className="check">
                    <input
                        type="checkbox"
                        checked={takesOver}
                        disabled={isBusy}
                        onChange={(event) => edit.setTakesOver(event.target.checked)}
                    />
                    {t("conflict.takeOver")}
                </label>
            )}
            {plan && <PlanView plan={plan} />}
            {state === "applied" && <p>{t("edit.applied")}</p>}
            <div className="row">
                <button type="submit" disabled={isBusy} className={plan ? "" : "primary"}>
                    {state === "planning" ? t("edit.planning") : t("edit.plan")}
                </button>
                <button
                    type="button"
                    className={plan ? "primary" : ""}
                    disabled={isBusy || !plan || plan.lines.every(({ is }) => is === "same")}
                    onClick={() => void edit.apply()}
                >
                    {t("edit.apply")}
                </button>
                <button type="button" disabled={isBusy} onClick={onClose}>
                    {t(state === "applied" ? "close" : "cancel")}
                </button>
            </div>
            <Commands
                commands={[
                    ...(isNew ? [] : [`kubectl get ${resource} -o yaml > ${file}`]),
                    `kubectl diff -f ${file} ${flags}`,
                    `kubectl apply -f ${file} ${flags}`,
                ]}
            />
        </form>
    );
}

const MARKS = { same: " ", added: "+", removed: "-" } as const;

/** The difference that applying would make. A line is marked by a sign, and named for who does not see it. */
function PlanView({ plan }: { plan: Plan }): ReactNode {
    const t = useText();
    const count = (is: "added" | "removed") => plan.lines.filter((line) => line.is === is).length;
    const [added, removed] = [count("added"), count("removed")];
    const isNothing = added + removed === 0;
    return (
        <section aria-label={t("plan")}>
            <h3>{t("plan")}</h3>
            <p role="status">
                {isNothing
                    ? t(plan.isKept ? "plan.kept" : "plan.nothing")
                    : `${t("plan.what")} ${t("plan.lines", { added, removed })}`}
            </p>
            {!isNothing && (
                <div className="diff" role="group" aria-label={t("plan")} tabIndex={0}>
                    {hunks(plan.lines).map((line, at) =>
                        line.is === "skipped" ? (
                            <div key={at} className="hint">
                                {t("plan.skipped", { count: line.count })}
                            </div>
                        ) : (
                            <div key={at} data-is={line.is}>
                                {line.is !== "same" && (
                                    <span className="visually-hidden">{t(`plan.${line.is}`)}: </span>
                                )}
                                <span aria-hidden="true">{MARKS[line.is]} </span>
                                {line.text}
                            </div>
                        ),
                    )}
                </div>
            )}
        </section>
    );
}

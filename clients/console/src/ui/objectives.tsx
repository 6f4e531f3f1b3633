// How well a tenant meets the goals of its host, and what to do where it does not.
import type { ReactNode } from "react";
import { useSource } from "../../../app/src/shared/source";
import { OBJECTIVE_STATES, stateOf, type Objective, type Tenant } from "../resources";
import type { Session } from "../state/session";
import type { Key } from "../text/texts";
import { usePage, useText } from "./context";
import { Commands, Matter, Table } from "./parts";

/** Those that the rules of the chart have. Others are shown by the names that they have in Prometheus. */
const KNOWN = new Map<string, { what: Key; step: Key }>([
    ["delivery", { what: "objective.delivery", step: "objective.delivery.step" }],
    ["commands", { what: "objective.commands", step: "objective.commands.step" }],
    ["sign_ins", { what: "objective.signIns", step: "objective.signIns.step" }],
    ["syncs", { what: "objective.syncs", step: "objective.syncs.step" }],
    ["notifications", { what: "objective.notifications", step: "objective.notifications.step" }],
]);

export function Objectives({ session, tenant }: { session: Session; tenant: Tenant }): ReactNode {
    const t = useText();
    const { metadata, status } = tenant;
    const objectives = status?.objectives ?? [];
    const bad = objectives.filter((objective) => stateOf(objective) !== "met");
    return (
        <section className="panel" aria-label={t("objectives")}>
            <h2>{t("objectives")}</h2>
            <p role="status" className={bad.length > 0 ? "step" : "visually-hidden"}>
                {bad.length > 0 && t("objectives.bad", { count: bad.length })}
            </p>
            {objectives.length === 0 ? (
                <Unknown session={session} tenant={tenant} />
            ) : (
                <Table
                    caption={t("objectives")}
                    columns={[
                        t("objective"),
                        t("objective.target"),
                        t("objective.budget"),
                        t("column.phase"),
                        t("objective.step"),
                    ]}
                >
                    {inOrder(objectives).map((objective) => (
                        <Row key={objective.name} objective={objective} />
                    ))}
                </Table>
            )}
            <Commands
                commands={[
                    `kubectl get mt ${metadata.name} -n ${metadata.namespace} -o jsonpath='{.status.objectives}'`,
                ]}
            />
        </section>
    );
}

/** Returns the worst first. */
function inOrder(objectives: readonly Objective[]): Objective[] {
    const rank = (objective: Objective) => OBJECTIVE_STATES.indexOf(stateOf(objective));
    return [...objectives].sort((one, other) => rank(one) - rank(other));
}

function Row({ objective }: { objective: Objective }): ReactNode {
    const t = useText();
    const { texts } = usePage();
    const { name, target, budgetRemainingPercent: left } = objective;
    const [state, known] = [stateOf(objective), KNOWN.get(name)];
    return (
        <tr>
            <th scope="row">{known ? t(known.what) : name}</th>
            <td>{texts.percent(target)}</td>
            <td>
                <meter
                    min={0}
                    max={100}
                    low={25}
                    optimum={100}
                    value={Math.max(0, left)}
                    aria-label={t("objective.budget")}
                >
                    {texts.percent(left / 100)}
                </meter>{" "}
                {texts.percent(left / 100)}
            </td>
            <td>
                <span className="phase" data-phase={state === "met" ? "ready" : "attention"}>
                    {t(`objective.${state}`)}
                </span>
            </td>
            <td className="wide">
                {state !== "met" && t(known?.step ?? "objective.other.step")}
                {state === "missed" && <span className="step">{t("objective.missed.step")}</span>}
            </td>
        </tr>
    );
}

/** Why there are none, and what would change that. */
function Unknown({ session, tenant }: { session: Session; tenant: Tenant }): ReactNode {
    const t = useText();
    const { cells } = useSource(session);
    const name = tenant.status?.cell;
    const cell = cells.value?.find(({ metadata }) => metadata.name === name);
    if (name === undefined) return <p>{t("objectives.unplaced")}</p>;
    if (!cell) return <p>{t("objectives.unseen", { name })}</p>;
    if (!cell.spec.monitoring?.prometheus) return <p>{t("objectives.noPrometheus", { name })}</p>;
    const known = cell.status?.conditions?.find(({ type }) => type === "ObjectivesKnown");
    if (known && known.status !== "True")
        return (
            <p>
                <strong>{known.type}</strong> <Matter condition={known} />
            </p>
        );
    return <p>{t("objectives.uncounted")}</p>;
}

/** The objectives of a tenant that need someone, in a line. Nothing where there are none. */
export function BadObjectives({ tenant }: { tenant: Tenant }): ReactNode {
    const t = useText();
    const { texts } = usePage();
    const bad = (tenant.status?.objectives ?? []).filter((objective) => stateOf(objective) !== "met");
    if (bad.length === 0) return null;
    const names = bad.map(({ name }) => {
        const known = KNOWN.get(name);
        return known ? t(known.what) : name;
    });
    return (
        <span className="step">
            <strong>{t("objectives.attention")}</strong> {texts.list(names)}
        </span>
    );
}

// The cells: how many tenants each carries and may carry, and what is the matter with it.
import { Fragment, useEffect, useState, type ReactNode } from "react";
import { useSource } from "../../../app/src/shared/source";
import { Refusal } from "../api";
import { href } from "../place";
import { byUrgency, manifestOf, readyOf, type Cell } from "../resources";
import { CellView } from "../state/cell-view";
import { Edit } from "../state/edit";
import type { Session } from "../state/session";
import type { Key } from "../text/texts";
import { toYaml } from "../yaml";
import { usePage, useText } from "./context";
import { EditForm } from "./edit-form";
import { Age, Commands, ErrorText, Matter } from "./parts";

export function Cells({ session }: { session: Session }): ReactNode {
    const t = useText();
    const { cells, mayPatchCells } = useSource(session);
    useEffect(() => void session.readCellRights(), [session]);
    const isForbidden = cells.error instanceof Refusal && cells.error.isForbidden;
    return (
        <>
            <h1>{t("cells")}</h1>
            {isForbidden ? <p role="status">{t("cells.forbidden")}</p> : <ErrorText error={cells.error} />}
            {cells.value?.length === 0 && <p>{t("cells.none")}</p>}
            {cells.value?.map((cell) => (
                <CellCard key={cell.metadata.uid} cell={cell} session={session} mayPatch={mayPatchCells} />
            ))}
            <Commands commands={["kubectl get mcell", "kubectl describe mcell"]} />
        </>
    );
}

/** Conditions about how tenants are watched over. No cell is less ready for them, and a cell without them says what that means. */
const WATCHED = new Set(["PodsScraped", "ObjectivesKnown"]);

type WatchingProps = { cell: Cell; type: string; isAsked: boolean; otherwise: Key };

function Watching({ cell, type, isAsked, otherwise }: WatchingProps): ReactNode {
    const t = useText();
    const condition = cell.status?.conditions?.find((one) => one.type === type);
    const phase = condition?.status === "True" ? "ready" : "attention";
    return (
        <>
            <dt>{type}</dt>
            <dd>
                {!isAsked ? (
                    t(otherwise)
                ) : !condition ? (
                    t("phase.new")
                ) : (
                    <>
                        <span className="phase" data-phase={phase}>
                            {condition.reason}
                        </span>{" "}
                        <Matter condition={condition} />
                    </>
                )}
            </dd>
        </>
    );
}

type CardProps = { cell: Cell; session: Session; mayPatch: boolean | undefined };

function CellCard({ cell, session, mayPatch }: CardProps): ReactNode {
    const t = useText();
    const { texts } = usePage();
    const { metadata, spec, status } = cell;
    const [view] = useState(() => CellView.of(session, metadata.name));
    const { edit } = useSource(view);
    const [placed, capacity] = [status?.tenants ?? 0, spec.capacity.tenants];
    const room = capacity - placed;
    const roomText =
        room > 0
            ? t("cell.room", { count: room })
            : room === 0
              ? t("cell.full")
              : t("cell.over", { count: -room });
    const here = (session.tenants.value ?? []).filter((tenant) => tenant.status?.cell === metadata.name);
    const ready = readyOf(cell);
    const id = `cell-${metadata.uid}`;
    return (
        <section className="panel" aria-labelledby={id}>
            <h2 id={id}>{metadata.name}</h2>
            <p>
                <span
                    className="phase"
                    data-phase={ready?.status === "True" ? "ready" : ready ? "attention" : "new"}
                >
                    {ready?.reason ?? t("phase.new")}
                </span>
            </p>
            {byUrgency(status?.conditions ?? [])
                .filter(({ type, status }) => status !== "True" && !WATCHED.has(type))
                .map((condition) => (
                    <p key={condition.type}>
                        <strong>{condition.type}</strong> <Matter condition={condition} />
                    </p>
                ))}
            <dl>
                <dt>{t("cell.capacity")}</dt>
                <dd>
                    <meter
                        min={0}
                        max={capacity}
                        high={capacity * 0.9}
                        value={placed}
                        aria-label={t("cell.capacity")}
                    >
                        {t("cell.capacity.of", { tenants: placed, capacity })}
                    </meter>{" "}
                    {t("cell.capacity.of", { tenants: placed, capacity })} ({roomText})
                </dd>
                <dt>{t("cell.domain")}</dt>
                <dd>{spec.routing.domain}</dd>
                <dt>{t("cell.namespaces")}</dt>
                <dd>
                    {spec.allowedNamespaces ? texts.list(spec.allowedNamespaces) : t("cell.namespaces.all")}
                </dd>
                <Watching
                    cell={cell}
                    type="PodsScraped"
                    isAsked={spec.monitoring?.podMonitors !== undefined}
                    otherwise="cell.notScraped"
                />
                <Watching
                    cell={cell}
                    type="ObjectivesKnown"
                    isAsked={spec.monitoring?.prometheus !== undefined}
                    otherwise="cell.noPrometheus"
                />
                <dt>{t("column.age")}</dt>
                <dd>
                    <Age at={metadata.creationTimestamp} />
                </dd>
                {here.length > 0 && (
                    <>
                        <dt>{t("cell.tenants")}</dt>
                        <dd>
                            {here.map(({ metadata: { uid, name, namespace = "" } }, at) => (
                                <Fragment key={uid}>
                                    {at > 0 && ", "}
                                    <a href={href({ at: "tenant", namespace, name })}>
                                        {namespace}/{name}
                                    </a>
                                </Fragment>
                            ))}
                        </dd>
                    </>
                )}
            </dl>
            {status?.leftovers && status.leftovers.length > 0 && (
                <>
                    <h3>{t("cell.leftovers")}</h3>
                    <ul>
                        {status.leftovers.map(({ tenantId, namespace, name, deletionPolicy, backends }) => (
                            <li key={`${namespace}/${name}/${tenantId}`}>
                                {t("cell.leftover", {
                                    tenant: tenantId,
                                    namespace,
                                    name,
                                    policy: deletionPolicy,
                                    backends: texts.list(backends),
                                })}
                            </li>
                        ))}
                    </ul>
                </>
            )}
            {edit ? (
                <EditForm edit={edit} onClose={() => view.setEdit(undefined)} />
            ) : (
                <details>
                    <summary>{t("manifest")}</summary>
                    <pre role="group" tabIndex={0} aria-label={t("manifest")}>
                        {toYaml(manifestOf(cell))}
                    </pre>
                    <button
                        type="button"
                        disabled={mayPatch === false}
                        aria-label={t("cell.edit", { name: metadata.name })}
                        onClick={() => view.setEdit(new Edit(view, cell))}
                    >
                        {t("edit")}
                    </button>
                    {mayPatch === false && <p className="hint">{t("noRight.patchCells")}</p>}
                </details>
            )}
            <Commands
                commands={[
                    `kubectl get mcell ${metadata.name} -o yaml`,
                    `kubectl describe mcell ${metadata.name}`,
                    `kubectl edit mcell ${metadata.name}`,
                ]}
            />
        </section>
    );
}

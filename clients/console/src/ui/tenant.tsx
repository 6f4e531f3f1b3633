// One tenant: what is the matter with it, what happened, what runs of it, and its manifest, which the user may change.
import { useEffect, useState, type ReactNode } from "react";
import { useSource } from "../../../app/src/shared/source";
import { Refusal } from "../api";
import { href } from "../place";
import {
    byUrgency,
    manifestOf,
    measured,
    phaseOf,
    readyOf,
    requested,
    seenAtMs,
    type Amounts,
    type Tenant,
} from "../resources";
import type { Session } from "../state/session";
import { Edit } from "../state/edit";
import { TenantView } from "../state/tenant-view";
import { toYaml } from "../yaml";
import { usePage, useText } from "./context";
import { DeleteDialog, PauseDialog } from "./dialogs";
import { EditForm } from "./edit-form";
import { Count, Files } from "./figures";
import { Objectives } from "./objectives";
import { Age, Commands, ErrorText, Matter, PhaseMark, Table } from "./parts";

type Props = { session: Session; namespace: string; name: string };

export function TenantScreen({ session, namespace, name }: Props): ReactNode {
    const t = useText();
    const [view] = useState(() => TenantView.of(session, namespace, name));
    const [dialog, setDialog] = useState<"pause" | "delete">();
    const { tenant } = useSource(view);
    useEffect(() => view.start(), [view]);
    const shown = tenant.value;
    return (
        <>
            <p>
                <a href={href({ at: "tenants" })}>{t("back")}</a>
            </p>
            <h1>
                {namespace}/{name}
            </h1>
            {/* The last that was seen stays while the server is not reached. */}
            <ErrorText error={tenant.error} />
            {!shown && tenant.error === undefined && <p role="status">{t("loading")}</p>}
            {shown && (
                <>
                    <Overview view={view} tenant={shown} onAsk={setDialog} />
                    <Conditions tenant={shown} />
                    <Objectives session={session} tenant={shown} />
                    <Running view={view} tenant={shown} />
                    <Events view={view} />
                    <Manifest view={view} tenant={shown} />
                </>
            )}
            {shown && dialog === "pause" && (
                <PauseDialog view={view} tenant={shown} onClose={() => setDialog(undefined)} />
            )}
            {shown && dialog === "delete" && (
                <DeleteDialog view={view} tenant={shown} onClose={() => setDialog(undefined)} />
            )}
        </>
    );
}

function Overview({
    view,
    tenant,
    onAsk,
}: {
    view: TenantView;
    tenant: Tenant;
    onAsk: (dialog: "pause" | "delete") => void;
}): ReactNode {
    const t = useText();
    const { metadata, spec, status } = tenant;
    const { rights } = view;
    const ready = readyOf(tenant);
    const isDeleting = metadata.deletionTimestamp !== undefined;
    return (
        <section className="panel" aria-label={t("overview")}>
            {/* It changes by itself while the operator goes on. */}
            <p className="lead" aria-live="polite">
                <PhaseMark phase={phaseOf(tenant)} /> {ready && <Matter condition={ready} />}
            </p>
            <dl>
                <dt>{t("tenantId")}</dt>
                <dd>{spec.tenantId}</dd>
                <dt>{t("cell")}</dt>
                <dd>{status?.cell ?? spec.cellRef.name}</dd>
                {status?.endpoints && (
                    <>
                        <dt>{t("address")}</dt>
                        <dd>
                            <a href={status.endpoints.web} rel="noreferrer noopener" target="_blank">
                                {status.endpoints.web}
                            </a>
                        </dd>
                    </>
                )}
                <dt>{t("topology")}</dt>
                <dd>{spec.topology ?? "Distributed"}</dd>
                <dt>{t("deletionPolicy")}</dt>
                <dd>{spec.deletionPolicy ?? "Retain"}</dd>
                <dt>{t("column.age")}</dt>
                <dd>
                    <Age at={metadata.creationTimestamp} />
                </dd>
            </dl>
            <p className="hint">
                {t("generation", {
                    generation: metadata.generation ?? 0,
                    observed: status?.observedGeneration ?? 0,
                })}
            </p>
            <div className="row">
                <button
                    type="button"
                    disabled={rights.patch === false || isDeleting}
                    onClick={() => onAsk("pause")}
                >
                    {t(spec.paused === true ? "resume" : "pause")}
                </button>
                <button
                    type="button"
                    className="danger"
                    disabled={rights.delete === false || isDeleting}
                    onClick={() => onAsk("delete")}
                >
                    {t("delete")}
                </button>
            </div>
            {rights.patch === false && (
                <p className="hint">{t("noRight.patch", { namespace: view.namespace })}</p>
            )}
            {rights.delete === false && (
                <p className="hint">{t("noRight.delete", { namespace: view.namespace })}</p>
            )}
        </section>
    );
}

function Conditions({ tenant }: { tenant: Tenant }): ReactNode {
    const t = useText();
    const conditions = byUrgency(tenant.status?.conditions ?? []);
    const { namespace, name } = tenant.metadata;
    return (
        <section className="panel" aria-label={t("conditions")}>
            <h2>{t("conditions")}</h2>
            {conditions.length === 0 ? (
                <p>{t("phase.new")}</p>
            ) : (
                <Table
                    caption={t("conditions")}
                    columns={[
                        t("condition"),
                        t("column.phase"),
                        t("column.reason"),
                        t("column.step"),
                        t("since"),
                    ]}
                >
                    {conditions.map((condition) => (
                        <tr key={condition.type}>
                            <th scope="row">{condition.type}</th>
                            <td>{condition.status}</td>
                            <td>{condition.reason}</td>
                            <td className="wide">
                                <Matter condition={condition} />
                            </td>
                            <td>
                                <Age at={condition.lastTransitionTime} />
                            </td>
                        </tr>
                    ))}
                </Table>
            )}
            <Commands commands={[`kubectl describe mt ${name} -n ${namespace}`]} />
        </section>
    );
}

function Running({ view, tenant }: { view: TenantView; tenant: Tenant }): ReactNode {
    const t = useText();
    const { texts } = usePage();
    const { deployments, pods } = view;
    const { spec, status, metadata } = tenant;
    const amounts = ({ cpu, memoryBytes }: Amounts) =>
        t("usage.amounts", { cpu, memory: texts.bytes(memoryBytes) });
    const notMeasured = pods.error instanceof Refusal && pods.error.isNotFound;
    const selector = `messenger.posthouse.dev/tenant=${spec.tenantId}`;
    return (
        <section className="panel" aria-label={t("usage")}>
            <h2>{t("services")}</h2>
            <ErrorText error={deployments.error} />
            {deployments.value?.length === 0 && <p>{t("services.none")}</p>}
            {deployments.value && deployments.value.length > 0 && (
                <Table
                    caption={t("services")}
                    columns={[t("service"), t("replicas"), t("updated"), t("usage.requested")]}
                >
                    {deployments.value.map((deployment) => (
                        <tr key={deployment.metadata.uid}>
                            <th scope="row">{deployment.metadata.name}</th>
                            <td>
                                {deployment.status?.readyReplicas ?? 0} / {deployment.spec.replicas ?? 1}
                            </td>
                            <td>{deployment.status?.updatedReplicas ?? 0}</td>
                            <td>{amounts(requested([deployment]))}</td>
                        </tr>
                    ))}
                </Table>
            )}
            <h2>{t("usage")}</h2>
            <dl>
                {deployments.value && (
                    <>
                        <dt>{t("usage.requested")}</dt>
                        <dd>{amounts(requested(deployments.value))}</dd>
                    </>
                )}
                <dt>{t("usage.measured")}</dt>
                <dd>
                    {pods.value ? (
                        amounts(measured(pods.value))
                    ) : notMeasured ? (
                        t("usage.notMeasured")
                    ) : (
                        <ErrorText error={pods.error} />
                    )}
                </dd>
                <dt>{t("usage.connections")}</dt>
                <dd>
                    <Count figure={status?.usage?.connections} />
                </dd>
                <dt>{t("usage.messages")}</dt>
                <dd>
                    <Count figure={status?.usage?.messagesPerHour} />
                </dd>
                <dt>{t("usage.media")}</dt>
                <dd>
                    <Files tenant={tenant} />
                </dd>
                <dt>{t("usage.users")}</dt>
                <dd>{t("usage.users.unknown")}</dd>
                <dt>{t("usage.topics")}</dt>
                <dd>{texts.number(Object.keys(status?.kafka?.topics ?? {}).length)}</dd>
                <dt>{t("usage.hosts")}</dt>
                <dd>{texts.list(status?.hosts ?? []) || t("none")}</dd>
            </dl>
            {status?.usage === undefined && <p className="hint">{t("usage.unknown.why")}</p>}
            <Commands
                commands={[
                    `kubectl get mt ${metadata.name} -n ${metadata.namespace} -o jsonpath='{.status.usage}'`,
                    `kubectl get deployments -n ${metadata.namespace} -l ${selector}`,
                    `kubectl top pods -n ${metadata.namespace} -l ${selector}`,
                ]}
            />
        </section>
    );
}

function Events({ view }: { view: TenantView }): ReactNode {
    const t = useText();
    const { events } = view;
    return (
        <section className="panel" aria-label={t("events")}>
            <h2>{t("events")}</h2>
            <ErrorText error={events.error} />
            {events.value?.length === 0 && <p>{t("events.none")}</p>}
            <ul className="events">
                {events.value?.map((event) => (
                    <li key={event.metadata.uid} data-type={event.type}>
                        <strong>{t(event.type === "Warning" ? "event.warning" : "event.normal")}</strong>{" "}
                        {event.reason}: {event.message}{" "}
                        <span className="hint">
                            <Age at={new Date(seenAtMs(event)).toISOString()} />
                            {", "}
                            {t("events.count", { count: event.series?.count ?? event.count ?? 1 })}
                        </span>
                    </li>
                ))}
            </ul>
            <Commands commands={[`kubectl events -n ${view.namespace} --for messengertenant/${view.name}`]} />
        </section>
    );
}

function Manifest({ view, tenant }: { view: TenantView; tenant: Tenant }): ReactNode {
    const t = useText();
    const { edit } = view;
    const { namespace, name, deletionTimestamp } = tenant.metadata;
    const canEdit = view.rights.patch !== false && deletionTimestamp === undefined;
    return (
        <section className="panel" aria-label={t("manifest")}>
            <h2>{t("manifest")}</h2>
            {edit ? (
                <EditForm edit={edit} onClose={() => view.setEdit(undefined)} />
            ) : (
                <>
                    <pre role="group" tabIndex={0} aria-label={t("manifest")}>
                        {toYaml(manifestOf(tenant))}
                    </pre>
                    <button
                        type="button"
                        disabled={!canEdit}
                        onClick={() => view.setEdit(new Edit(view, tenant))}
                    >
                        {t("edit")}
                    </button>
                    <Commands
                        commands={[
                            `kubectl get mt ${name} -n ${namespace} -o yaml`,
                            `kubectl edit mt ${name} -n ${namespace}`,
                        ]}
                    />
                </>
            )}
        </section>
    );
}

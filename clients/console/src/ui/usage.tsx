// What each tenant takes of the cluster, and all of them together.
import { useEffect, useState, type ReactNode } from "react";
import { useSource } from "../../../app/src/shared/source";
import { href } from "../place";
import { sumOf, type Amounts, type Usage } from "../resources";
import type { Session } from "../state/session";
import { Usages } from "../state/usages";
import { usePage, useText } from "./context";
import { Count, Files } from "./figures";
import { Commands, Table } from "./parts";

export function UsageScreen({ session }: { session: Session }): ReactNode {
    const t = useText();
    const { texts } = usePage();
    const [state] = useState(() => new Usages(session));
    const { usages, isLoading, failed, sum } = useSource(state);
    useEffect(() => void state.load(), [state]);
    const amounts = (of: Amounts | undefined) =>
        of === undefined ? t("none") : t("usage.amounts", { cpu: of.cpu, memory: texts.bytes(of.memoryBytes) });
    // What is in the status of a tenant comes by itself.
    const { tenants } = useSource(session);
    const now = new Map((tenants.value ?? []).map((tenant) => [tenant.metadata.uid, tenant]));
    const rows = usages.map((usage) => ({
        ...usage,
        tenant: now.get(usage.tenant.metadata.uid) ?? usage.tenant,
    }));
    const together = (figure: (usage: Usage) => number | undefined) =>
        sumOf(rows.map(({ tenant: { status } }) => status?.usage && figure(status.usage)));
    return (
        <>
            <h1>{t("usage")}</h1>
            <p className="hint">{t("usage.what")}</p>
            {rows.some(({ tenant: { status } }) => status?.usage === undefined) && (
                <p className="hint">{t("usage.unknown.why")}</p>
            )}
            {failed > 0 && (
                <p className="error" role="alert">
                    {t("usage.failed", { count: failed })}
                </p>
            )}
            {usages.length === 0 ? (
                <p>{t("tenants.none")}</p>
            ) : (
                <Table
                    caption={t("usage")}
                    columns={[
                        t("column.name"),
                        t("column.namespace"),
                        t("column.cell"),
                        t("replicas"),
                        t("usage.requested"),
                        t("usage.measured"),
                        t("usage.connections"),
                        t("usage.messages"),
                        t("usage.media"),
                    ]}
                >
                    {rows.map(({ tenant, tenant: { metadata, spec, status }, running, measured }) => (
                        <tr key={metadata.uid}>
                            <th scope="row">
                                <a
                                    href={href({
                                        ...{ at: "tenant", name: metadata.name },
                                        namespace: metadata.namespace ?? "",
                                    })}
                                >
                                    {metadata.name}
                                </a>
                            </th>
                            <td>{metadata.namespace}</td>
                            <td>{status?.cell ?? spec.cellRef.name}</td>
                            <td>{running ? `${running.ready} / ${running.replicas}` : t("none")}</td>
                            <td>{amounts(running?.requested)}</td>
                            <td>{amounts(measured)}</td>
                            <td>
                                <Count figure={status?.usage?.connections} />
                            </td>
                            <td>
                                <Count figure={status?.usage?.messagesPerHour} />
                            </td>
                            <td>
                                <Files tenant={tenant} />
                            </td>
                        </tr>
                    ))}
                    <tr>
                        <th scope="row">{t("usage.sum")}</th>
                        <td />
                        <td />
                        <td />
                        <td>{amounts(sum.requested)}</td>
                        <td>{amounts(sum.measured)}</td>
                        <td>
                            <Count figure={together(({ connections }) => connections)} />
                        </td>
                        <td>
                            <Count figure={together(({ messagesPerHour }) => messagesPerHour)} />
                        </td>
                        <td />
                    </tr>
                </Table>
            )}
            <div className="row">
                <button type="button" disabled={isLoading} onClick={() => void state.load()}>
                    {t(isLoading ? "loading" : "usage.readAgain")}
                </button>
            </div>
            <Commands
                commands={[
                    "kubectl get mt -A -o custom-columns=NAMESPACE:.metadata.namespace,NAME:.metadata.name,USAGE:.status.usage",
                    "kubectl get deployments -A -l messenger.posthouse.dev/tenant -o wide",
                    "kubectl top pods -A -l messenger.posthouse.dev/tenant",
                ]}
            />
        </>
    );
}

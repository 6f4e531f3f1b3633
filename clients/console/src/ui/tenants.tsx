// All tenants that the user may see, at a glance: what each is at, and what to do next.
import { useState, type FormEvent, type ReactNode } from "react";
import { useSource } from "../../../app/src/shared/source";
import { href } from "../place";
import { PHASES, phaseOf, readyOf, type Tenant } from "../resources";
import { namespacesOf, type Session } from "../state/session";
import { useText } from "./context";
import { BadObjectives } from "./objectives";
import { Age, Commands, ErrorText, Field, Matter, NameField, PhaseMark, Table } from "./parts";

export function Tenants({ session }: { session: Session }): ReactNode {
    const t = useText();
    const { tenants, namespaces } = useSource(session);
    const [filter, setFilter] = useState("");
    const all = tenants.value ?? [];
    const shown = all.filter((tenant) => matches(tenant, filter));
    const counts = PHASES.map((phase) => [phase, all.filter((one) => phaseOf(one) === phase).length] as const);
    return (
        <>
            <h1>{t("tenants")}</h1>
            <ErrorText error={tenants.error} />
            <Scope session={session} />
            <p>
                <a href={href({ at: "new" })}>{t("new.title")}</a>
            </p>
            {tenants.value && (
                <ul className="counts">
                    <li>{t("tenants.count", { count: all.length })}</li>
                    {counts
                        .filter(([, count]) => count > 0)
                        .map(([phase, count]) => (
                            <li key={phase}>
                                <PhaseMark phase={phase} /> {count}
                            </li>
                        ))}
                </ul>
            )}
            {all.length > 0 && (
                <Field
                    label={t("filter")}
                    hint={t("filter.hint")}
                    type="search"
                    value={filter}
                    onChange={(event) => setFilter(event.target.value)}
                />
            )}
            {shown.length > 0 && (
                <Table
                    caption={t("tenants")}
                    columns={[
                        t("column.name"),
                        t("column.namespace"),
                        t("column.phase"),
                        t("column.reason"),
                        t("column.step"),
                        t("column.cell"),
                        t("column.age"),
                    ]}
                >
                    {shown.map((tenant) => (
                        <Row key={tenant.metadata.uid} tenant={tenant} />
                    ))}
                </Table>
            )}
            {all.length > 0 && shown.length === 0 && <p role="status">{t("filter.nothing")}</p>}
            {tenants.value && all.length === 0 && namespaces?.length !== 0 && <p>{t("tenants.none")}</p>}
            <Commands
                commands={
                    namespaces === undefined
                        ? ["kubectl get mt -A -o wide"]
                        : namespaces.map((namespace) => `kubectl get mt -n ${namespace} -o wide`)
                }
            />
        </>
    );
}

function matches({ metadata, spec, status }: Tenant, filter: string): boolean {
    const words = filter.toLowerCase().split(/\s+/);
    const texts = [metadata.name, metadata.namespace ?? "", spec.tenantId, spec.cellRef.name];
    const text = [...texts, ...(status?.hosts ?? [])].join(" ");
    return words.every((word) => text.includes(word));
}

function Row({ tenant }: { tenant: Tenant }): ReactNode {
    const { name, namespace = "", creationTimestamp } = tenant.metadata;
    const ready = readyOf(tenant);
    const phase = phaseOf(tenant);
    return (
        <tr>
            <th scope="row">
                <a href={href({ at: "tenant", namespace, name })}>{name}</a>
            </th>
            <td>{namespace}</td>
            <td>
                <PhaseMark phase={phase} />
            </td>
            <td>{ready?.reason}</td>
            <td className="wide">
                {ready && <Matter condition={ready} />}
                <BadObjectives tenant={tenant} />
            </td>
            <td>{tenant.status?.cell ?? tenant.spec.cellRef.name}</td>
            <td>
                <Age at={creationTimestamp} />
            </td>
        </tr>
    );
}

/** Of which namespaces the list is: all, or those that the user names. */
function Scope({ session }: { session: Session }): ReactNode {
    const t = useText();
    const { namespaces, refused } = useSource(session);
    const [name, setName] = useState("");
    if (namespaces === undefined) return <p className="hint">{t("tenants.scopeAll")}</p>;
    const names = namespacesOf(name);
    const submit = (event: FormEvent) => {
        event.preventDefault();
        if (names?.length !== 1) return;
        setName("");
        void session.add(names[0]!);
    };
    return (
        <section className="scope">
            {namespaces.length === 0 ? (
                <p>{t("tenants.noNamespace")}</p>
            ) : (
                <ul className="row" aria-label={t("namespaces")}>
                    {namespaces.map((namespace) => (
                        <li key={namespace} className="chip">
                            {namespace}
                            <button
                                type="button"
                                aria-label={t("namespace.remove", { name: namespace })}
                                onClick={() => void session.remove(namespace)}
                            >
                                ×
                            </button>
                        </li>
                    ))}
                </ul>
            )}
            {[...refused].map(([namespace, refusal]) => (
                <ErrorText key={namespace} error={refusal} />
            ))}
            <form className="row" onSubmit={submit}>
                <NameField
                    label={t("namespace.name")}
                    value={name}
                    refusal={name !== "" && names?.length !== 1 ? t("namespace.invalid") : undefined}
                    onChange={(event) => setName(event.target.value)}
                />
                <button type="submit" disabled={names?.length !== 1}>
                    {t("namespace.add")}
                </button>
            </form>
        </section>
    );
}

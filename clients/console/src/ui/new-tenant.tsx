// A new tenant: its names, a manifest to begin with, and its plan before it is applied.
import { useEffect, useState, type ReactNode } from "react";
import { Select } from "../../../app/src/shared/fields";
import { useSource } from "../../../app/src/shared/source";
import { go, href } from "../place";
import { EXAMPLE_NAMES, NewTenant, type Example, type Names } from "../state/new-tenant";
import type { Session } from "../state/session";
import type { Key } from "../text/texts";
import { usePage, useText } from "./context";
import { EditForm } from "./edit-form";
import { Commands, NameField } from "./parts";

export function NewTenantScreen({ session }: { session: Session }): ReactNode {
    const t = useText();
    const { say } = usePage();
    const [created] = useState(() => NewTenant.of(session));
    const { edit, names } = useSource(created);
    const { namespace, name } = names;
    return (
        <>
            <p>
                <a href={href({ at: "tenants" })}>{t("back")}</a>
            </p>
            <h1>{t("new.title")}</h1>
            {edit ? (
                <section className="panel" aria-label={t("manifest")}>
                    <h2>
                        {namespace}/{name}
                    </h2>
                    <EditForm
                        edit={edit}
                        onClose={() => created.end()}
                        onApplied={() => {
                            say(t("edit.applied"));
                            created.end();
                            go({ at: "tenant", namespace, name });
                        }}
                    />
                </section>
            ) : (
                <NamesForm session={session} created={created} />
            )}
            <Commands commands={[`kubectl create namespace ${namespace || "NAMESPACE"}`]} />
        </>
    );
}

/** Why a name can be none. */
const REFUSALS = {
    namespace: "namespace.invalid",
    name: "new.name.invalid",
    cell: "cell.invalid",
} as const satisfies Record<keyof Names, Key>;

function NamesForm({ session, created }: { session: Session; created: NewTenant }): ReactNode {
    const t = useText();
    const { cells } = useSource(session);
    const { names, example, isNamed } = useSource(created);
    const change = (one: Partial<Names>) => created.set({ names: { ...names, ...one } });
    const refusal = (of: keyof Names) => (created.isRefused(of) ? t(REFUSALS[of]) : undefined);
    // The cells may be there only after the screen is.
    const [first] = cells.value ?? [];
    const firstName = first?.metadata.name;
    useEffect(() => {
        if (created.names.cell === "" && firstName !== undefined)
            created.set({ names: { ...created.names, cell: firstName } });
    }, [created, firstName]);
    return (
        <form
            className="panel"
            onSubmit={(event) => {
                event.preventDefault();
                created.begin();
            }}
        >
            <NameField
                label={t("column.namespace")}
                hint={t("new.namespace.hint")}
                value={names.namespace}
                refusal={refusal("namespace")}
                required
                onChange={(event) => change({ namespace: event.target.value })}
            />
            <NameField
                label={t("column.name")}
                hint={t("new.name.hint")}
                value={names.name}
                refusal={refusal("name")}
                required
                onChange={(event) => change({ name: event.target.value })}
            />
            {cells.value && cells.value.length > 0 ? (
                <Select
                    label={t("cell")}
                    value={names.cell}
                    onChange={(event) => change({ cell: event.target.value })}
                >
                    {cells.value.map(({ metadata, spec, status }) => (
                        <option key={metadata.uid} value={metadata.name}>
                            {metadata.name} (
                            {t("cell.capacity.of", {
                                tenants: status?.tenants ?? 0,
                                capacity: spec.capacity.tenants,
                            })}
                            )
                        </option>
                    ))}
                </Select>
            ) : (
                <NameField
                    label={t("cell")}
                    hint={t("new.cell.hint")}
                    value={names.cell}
                    refusal={refusal("cell")}
                    required
                    onChange={(event) => change({ cell: event.target.value })}
                />
            )}
            <Select
                label={t("new.example")}
                value={example}
                onChange={(event) => created.set({ example: event.target.value as Example })}
            >
                {EXAMPLE_NAMES.map((name) => (
                    <option key={name} value={name}>
                        {t(`new.example.${name}`)}
                    </option>
                ))}
            </Select>
            <div className="row">
                <button type="submit" className="primary" disabled={!isNamed}>
                    {t("new.write")}
                </button>
            </div>
        </form>
    );
}

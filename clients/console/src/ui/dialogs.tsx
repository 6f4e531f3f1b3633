// What is asked before a tenant is paused or deleted: what follows from it.
import { useState, type ReactNode } from "react";
import type { Tenant } from "../resources";
import type { TenantView } from "../state/tenant-view";
import { usePage, useText } from "./context";
import { Commands, Dialog, ErrorText, Field, useCall } from "./parts";

type Props = { view: TenantView; tenant: Tenant; onClose: () => void };

export function PauseDialog({ view, tenant, onClose }: Props): ReactNode {
    const t = useText();
    const { isBusy, error, run } = useCall();
    const { namespace, name } = view;
    // What the user is asked stays what it was when they opened it.
    const [paused] = useState(tenant.spec.paused !== true);
    const verb = t(paused ? "pause" : "resume");
    return (
        <Dialog title={`${verb}: ${namespace}/${name}`} onClose={onClose}>
            <p>{t(paused ? "pause.what" : "resume.what", { name })}</p>
            <Commands
                commands={[
                    `kubectl patch mt ${name} -n ${namespace} --type merge --field-manager posthouse-console -p '{"spec":{"paused":${paused}}}'`,
                ]}
            />
            <ErrorText error={error} />
            <div className="row">
                <button
                    type="button"
                    className="primary"
                    disabled={isBusy}
                    onClick={() => run(() => view.setPaused(paused).then(onClose))}
                >
                    {verb}
                </button>
                <button type="button" onClick={onClose}>
                    {t("cancel")}
                </button>
            </div>
        </Dialog>
    );
}

export function DeleteDialog({ view, tenant, onClose }: Props): ReactNode {
    const t = useText();
    const { texts, say } = usePage();
    const { isBusy, error, run } = useCall();
    const [typed, setTyped] = useState("");
    const { namespace, name } = view;
    const { uid } = tenant.metadata;
    const policy = tenant.spec.deletionPolicy ?? "Retain";
    const removes = policy === "Delete";
    const hosts = tenant.status?.hosts ?? [];
    const parts = texts.list(useParts(tenant)) || t("delete.part.none");
    return (
        <Dialog title={t("delete.title", { name: `${namespace}/${name}` })} onClose={onClose}>
            <ul className="consequences">
                <li>{t("delete.stops")}</li>
                <li>
                    {hosts.length > 0 ? t("delete.hosts", { hosts: texts.list(hosts) }) : t("delete.hostsNone")}
                </li>
                {removes ? (
                    <li className="danger-text">
                        <strong>{t("delete.remove")}</strong> {t("delete.remove.data", { parts })}
                    </li>
                ) : (
                    <li>
                        {t("delete.retain", { namespace })} {t("delete.retain.data", { parts })}
                    </li>
                )}
                {removes && <li>{t("delete.change")}</li>}
                <li>{t("delete.left")}</li>
                {tenant.spec.paused === true && <li>{t("delete.paused")}</li>}
            </ul>
            <Commands commands={[`kubectl delete mt ${name} -n ${namespace}`]} />
            <form
                onSubmit={(event) => {
                    event.preventDefault();
                    if (typed !== name) return;
                    run(async () => {
                        await view.delete(uid, policy);
                        say(t("delete.done", { name }));
                        onClose();
                    });
                }}
            >
                <Field
                    label={t("delete.confirm", { name })}
                    value={typed}
                    onChange={(event) => setTyped(event.target.value)}
                />
                <ErrorText error={error} />
                <div className="row">
                    <button type="submit" className="danger" disabled={isBusy || typed !== name}>
                        {t(removes ? "delete.do" : "delete.doRetain")}
                    </button>
                    <button type="button" onClick={onClose}>
                        {t("cancel")}
                    </button>
                </div>
            </form>
        </Dialog>
    );
}

/** What of the tenant is in the backends, as its status names it. */
function useParts({ status }: Tenant): string[] {
    const t = useText();
    const { texts } = usePage();
    const topics = Object.keys(status?.kafka?.topics ?? {});
    const keyspace = status?.store?.keyspace;
    return [
        ...(topics.length > 0 ? [t("delete.part.topics", { names: texts.list(topics) })] : []),
        ...(keyspace === undefined ? [] : [t("delete.part.keyspace", { name: keyspace })]),
        ...Object.keys(status?.generations ?? {})
            .filter((backend) => backend !== "cql")
            .map((backend) => t("delete.part.backend", { name: backend })),
    ];
}

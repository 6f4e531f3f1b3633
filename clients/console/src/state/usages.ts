// What all tenants that the user sees take of the cluster, read when it is looked at: a call or two for each namespace.
import { Source } from "../../../app/src/shared/source";
import { paths } from "../api";
import { measured, requested, type Amounts, type Deployment, type PodMetrics, type Tenant } from "../resources";
import type { Session } from "./session";
import { TENANT_LABEL } from "./tenant-view";

/** Namespaces that are read at a time: a browser has six connections to the console. */
const MAX_NAMESPACES = 3;

export type Usage = {
    tenant: Tenant;
    /** Absent where the user may not list Deployments. */
    running?: { ready: number; replicas: number; requested: Amounts };
    /** Absent where the cluster does not measure, or does not let the user see it. */
    measured?: Amounts;
};

export class Usages extends Source {
    /** In the order of the tenants; those of a namespace come with it. */
    usages: readonly Usage[] = [];
    isLoading = false;
    /** How many namespaces did not say what runs in them. */
    failed = 0;

    constructor(readonly session: Session) {
        super();
    }

    /** What there is of it together. */
    get sum(): { requested: Amounts; measured: Amounts } {
        const sumOf = (amounts: readonly (Amounts | undefined)[]) => ({
            cpu: amounts.reduce((sum, one) => sum + (one?.cpu ?? 0), 0),
            memoryBytes: amounts.reduce((sum, one) => sum + (one?.memoryBytes ?? 0), 0),
        });
        return {
            requested: sumOf(this.usages.map(({ running }) => running?.requested)),
            measured: sumOf(this.usages.map((usage) => usage.measured)),
        };
    }

    async load(): Promise<void> {
        if (this.isLoading) return;
        const tenants = this.session.tenants.value ?? [];
        const namespaces = [...new Set(tenants.map(({ metadata }) => metadata.namespace ?? ""))];
        this.isLoading = true;
        this.failed = 0;
        // What was read before stays until it is read again.
        const known = new Map(this.usages.map((usage) => [usage.tenant.metadata.uid, usage]));
        this.usages = tenants.map((tenant) => ({ ...known.get(tenant.metadata.uid), tenant }));
        this.changed();
        const read = async () => {
            for (let namespace; (namespace = namespaces.shift()) !== undefined;) await this.#read(namespace);
        };
        await Promise.all(Array.from({ length: MAX_NAMESPACES }, read));
        this.isLoading = false;
        this.changed();
    }

    async #read(namespace: string): Promise<void> {
        const { kubernetes } = this.session;
        const [deployments, pods] = await Promise.allSettled([
            kubernetes.list<Deployment>(paths.deployments(namespace), { labelSelector: TENANT_LABEL }),
            kubernetes.list<PodMetrics>(paths.podMetrics(namespace), { labelSelector: TENANT_LABEL }),
        ]);
        if (deployments.status === "rejected") this.failed += 1;
        this.usages = this.usages.map((usage) => {
            const { tenant } = usage;
            if (tenant.metadata.namespace !== namespace) return usage;
            const of = ({ metadata }: { metadata: { labels?: Record<string, string> } }) =>
                metadata.labels?.[TENANT_LABEL] === tenant.spec.tenantId;
            return {
                tenant,
                ...(deployments.status === "fulfilled" && {
                    running: running(deployments.value.items.filter(of)),
                }),
                ...(pods.status === "fulfilled" && { measured: measured(pods.value.items.filter(of)) }),
            };
        });
        this.changed();
    }
}

function running(deployments: readonly Deployment[]): NonNullable<Usage["running"]> {
    return {
        ready: deployments.reduce((sum, { status }) => sum + (status?.readyReplicas ?? 0), 0),
        replicas: deployments.reduce((sum, { spec }) => sum + (spec.replicas ?? 1), 0),
        requested: requested(deployments),
    };
}

// One tenant that the user looks at: its manifest, what happened to it, what runs of it, and what the user may do to it.
import { Source } from "../../../app/src/shared/source";
import { paths, Refusal } from "../api";
import type { DeletionPolicy, Deployment, KubernetesEvent, PodMetrics, Tenant } from "../resources";
import { seenAtMs } from "../resources";
import type { Edit, Target } from "./edit";
import { taken, type Part, type Session } from "./session";

const REFRESH_MS = 5_000;
/** Of all that the operator makes for a tenant: the tenant id. */
export const TENANT_LABEL = "messenger.posthouse.dev/tenant";

/** The deletion policy is another one than the user has read the consequences of. */
export class PolicyChanged extends Error {}

/** Those of a session, by path: who comes back to a tenant finds what was being written there. */
const VIEWS = new WeakMap<Session, Map<string, TenantView>>();

export class TenantView extends Source implements Target {
    tenant: Part<Tenant> = {};
    /** The newest first. */
    events: Part<KubernetesEvent[]> = {};
    deployments: Part<Deployment[]> = {};
    /** Refused with 404 where the cluster does not measure. */
    pods: Part<PodMetrics[]> = {};
    /** What the user may do, as far as it is known. */
    rights: { patch?: boolean; delete?: boolean } = {};
    /** What the user writes, until it is applied and closed, or given up. */
    edit: Edit | undefined;
    readonly path: string;
    readonly kind = "tenant";

    /** Returns the view of a tenant, the same one in a session. */
    static of(session: Session, namespace: string, name: string): TenantView {
        const views = VIEWS.get(session) ?? new Map<string, TenantView>();
        VIEWS.set(session, views);
        const path = paths.tenant(namespace, name);
        const view = views.get(path) ?? new TenantView(session, namespace, name);
        views.set(path, view);
        return view;
    }

    constructor(
        readonly session: Session,
        readonly namespace: string,
        readonly name: string,
    ) {
        super();
        this.path = paths.tenant(namespace, name);
    }

    get resource(): string {
        return `mt ${this.name} -n ${this.namespace}`;
    }

    /** Whether it was there and is not any more. */
    get isGone(): boolean {
        return this.tenant.error instanceof Refusal && this.tenant.error.isNotFound;
    }

    /** Reads all of it again and again, until the returned function is called. */
    start(): () => void {
        void this.refresh();
        void this.#readRights();
        const timer = setInterval(() => {
            if (document.visibilityState === "visible" && !this.session.hasEnded && !this.isGone)
                void this.refresh();
        }, REFRESH_MS);
        return () => clearInterval(timer);
    }

    async refresh(): Promise<void> {
        const { kubernetes } = this.session;
        const [tenant] = await Promise.allSettled([kubernetes.get<Tenant>(this.path)]);
        this.tenant = taken(this.tenant, tenant);
        this.changed();
        if (tenant.status === "rejected") return this.session.notice(tenant.reason);
        const { metadata, spec } = tenant.value;
        const labelSelector = `${TENANT_LABEL}=${spec.tenantId}`;
        const [events, deployments, pods] = await Promise.allSettled([
            kubernetes.list<KubernetesEvent>(paths.events(this.namespace), {
                fieldSelector: `involvedObject.uid=${metadata.uid}`,
            }),
            kubernetes.list<Deployment>(paths.deployments(this.namespace), { labelSelector }),
            kubernetes.list<PodMetrics>(paths.podMetrics(this.namespace), { labelSelector }),
        ]);
        this.events = taken(this.events, events);
        this.events.value?.sort((one, other) => seenAtMs(other) - seenAtMs(one));
        this.deployments = taken(this.deployments, deployments);
        this.pods = taken(this.pods, pods);
        this.changed();
    }

    setEdit(edit: Edit | undefined): void {
        this.edit = edit;
        this.changed("at once");
    }

    /** Lets the operator write, or only look. */
    async setPaused(paused: boolean): Promise<void> {
        await this.#noticed(this.session.kubernetes.merge<Tenant>(this.path, { spec: { paused } }));
        await this.refresh();
    }

    /** Deletes the tenant that the user saw, with the policy that the user saw. */
    async delete(uid: string, policy: DeletionPolicy): Promise<void> {
        const now = await this.#noticed(this.session.kubernetes.get<Tenant>(this.path));
        if ((now.spec.deletionPolicy ?? "Retain") !== policy) {
            this.tenant = { value: now };
            this.changed();
            throw new PolicyChanged();
        }
        await this.#noticed(this.session.kubernetes.delete(this.path, uid));
        await Promise.all([this.refresh(), this.session.refresh()]);
    }

    async #readRights(): Promise<void> {
        const { kubernetes } = this.session;
        const [patch, remove] = await Promise.allSettled([
            kubernetes.may("patch", this.namespace),
            kubernetes.may("delete", this.namespace),
        ]);
        this.rights = {
            ...(patch.status === "fulfilled" && { patch: patch.value }),
            ...(remove.status === "fulfilled" && { delete: remove.value }),
        };
        this.changed();
    }

    async #noticed<T>(call: Promise<T>): Promise<T> {
        try {
            return await call;
        } catch (error) {
            this.session.notice(error);
            throw error;
        }
    }
}

// One tenant that the user looks at: its manifest, what happened to it, what runs of it, and what the user may do to it.
import { Reading } from "../../../app/src/shared/reading";
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
    readonly #resource = new Reading((isNewest) => this.#readResource(isNewest));
    /** By itself: a server that measures slowly delays nothing of the tenant. */
    readonly #surroundings = new Reading((isNewest) => this.#readSurroundings(isNewest));

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
        // What is under way may be of a look before.
        void this.#readAnew();
        void this.#readRights();
        const timer = setInterval(() => {
            if (document.visibilityState === "visible" && !this.session.hasEnded && !this.isGone)
                void this.refresh();
        }, REFRESH_MS);
        return () => clearInterval(timer);
    }

    /** Reads all of it, or waits for the answers that are under way. */
    async refresh(): Promise<void> {
        await this.#resource.join();
        await this.#surroundings.join();
    }

    /** Reads it, and the lists that have it, as a change has left them. */
    async refreshAfterChange(): Promise<void> {
        await Promise.all([this.#readAnew(), this.session.refreshAfterChange()]);
    }

    setEdit(edit: Edit | undefined): void {
        this.edit = edit;
        this.changed("at once");
    }

    /** Lets the operator write, or only look. */
    async setPaused(paused: boolean): Promise<void> {
        await this.session.kubernetes.merge<Tenant>(this.path, { spec: { paused } });
        await this.refreshAfterChange();
    }

    /** Deletes the tenant that the user saw, with the policy that the user saw. */
    async delete(uid: string, policy: DeletionPolicy): Promise<void> {
        const now = await this.session.kubernetes.get<Tenant>(this.path);
        if ((now.spec.deletionPolicy ?? "Retain") !== policy) {
            await this.#resource.again();
            throw new PolicyChanged();
        }
        await this.session.kubernetes.delete(this.path, uid);
        await this.refreshAfterChange();
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

    async #readAnew(): Promise<void> {
        await this.#resource.again();
        await this.#surroundings.again();
    }

    async #readResource(isNewest: () => boolean): Promise<void> {
        const [tenant] = await Promise.allSettled([this.session.kubernetes.get<Tenant>(this.path)]);
        if (!isNewest()) return;
        this.tenant = taken(this.tenant, tenant);
        this.changed();
    }

    async #readSurroundings(isNewest: () => boolean): Promise<void> {
        const { value, error } = this.tenant;
        if (!value || error !== undefined) return;
        const { kubernetes } = this.session;
        const labelSelector = `${TENANT_LABEL}=${value.spec.tenantId}`;
        const [events, deployments, pods] = await Promise.allSettled([
            kubernetes.list<KubernetesEvent>(paths.events(this.namespace), {
                fieldSelector: `involvedObject.uid=${value.metadata.uid}`,
            }),
            kubernetes.list<Deployment>(paths.deployments(this.namespace), { labelSelector }),
            kubernetes.list<PodMetrics>(paths.podMetrics(this.namespace), { labelSelector }),
        ]);
        if (!isNewest()) return;
        this.events = taken(this.events, events);
        this.events.value?.sort((one, other) => seenAtMs(other) - seenAtMs(one));
        this.deployments = taken(this.deployments, deployments);
        this.pods = taken(this.pods, pods);
        this.changed();
    }
}

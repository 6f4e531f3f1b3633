// One tenant that the user looks at: its manifest, what happened to it, what runs of it, and what the user may do to it.
import { Reading } from "../../../app/src/shared/reading";
import { Source } from "../../../app/src/shared/source";
import { paths, Refusal } from "../api";
import { isOlder, KeptList } from "../kept";
import type { DeletionPolicy, Deployment, KubernetesEvent, PodMetrics, Tenant } from "../resources";
import { seenAtMs } from "../resources";
import type { Edit, Target } from "./edit";
import type { Owner } from "./live";
import { itemsOf, kept, taken, type Part, type Session } from "./session";

const REFRESH_MS = 5_000;
/** Of all that the operator makes for a tenant: the tenant id. */
export const TENANT_LABEL = "messenger.posthouse.dev/tenant";

/** The deletion policy is another one than the user has read the consequences of. */
export class PolicyChanged extends Error {}

/** Those of a session, by path: who comes back to a tenant finds what was being written there. */
const VIEWS = new WeakMap<Session, Map<string, TenantView>>();

export class TenantView extends Source implements Target, Owner {
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
    readonly #surroundings = new Reading((isNewest) => this.#readSurroundings(isNewest));
    /** By itself: a server that measures slowly delays nothing else. */
    readonly #measures = new Reading((isNewest) => this.#readMeasures(isNewest));
    /** What is read around the tenant with this UID. */
    #around: Around | undefined;

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

    get lists(): readonly KeptList[] {
        return this.#around ? [this.#around.events, this.#around.deployments] : [];
    }

    /** Follows all of it, and reads again and again what is not followed, until the returned function is called. */
    start(): () => void {
        // What is under way may be of a look before.
        void this.#readAnew();
        void this.#readRights();
        const { session } = this;
        const leave = session.live.add(this);
        const unsubscribe = session.subscribe(() => this.#heed());
        const timer = setInterval(() => {
            if (document.visibilityState !== "visible" || session.hasEnded || this.isGone) return;
            // What pods take is measured, and cannot be followed.
            if (this.#isFollowed) void this.#measures.join();
            else void this.refresh();
        }, REFRESH_MS);
        return () => {
            clearInterval(timer);
            unsubscribe();
            leave();
        };
    }

    /** Shows what has changed around the tenant. */
    seen(): void {
        if (!this.#around) return;
        const { events, deployments } = this.#around;
        if (events.version !== undefined) this.events = { value: newestFirst(events.items) };
        if (deployments.version !== undefined) this.deployments = { value: deployments.items };
        this.changed();
    }

    readAgain(): void {
        void this.#surroundings.again();
    }

    /** Reads all of it, or waits for the answers that are under way. */
    async refresh(): Promise<void> {
        await this.#resource.join();
        await Promise.all([this.#surroundings.join(), this.#measures.join()]);
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
        await Promise.all([this.#surroundings.again(), this.#measures.again()]);
    }

    /** Whether all that changes of it comes by itself, and nothing failed since. */
    get #isFollowed(): boolean {
        const { session, lists } = this;
        const isSound = [this.tenant, this.events, this.deployments].every(({ error }) => error === undefined);
        const areFollowed = lists.length > 0 && lists.every((list) => session.live.has(list));
        return isSound && areFollowed && session.followedIn(this.namespace) !== undefined;
    }

    /** Takes the tenant as the lists of the session have it. */
    #heed(): void {
        const list = this.session.followedIn(this.namespace);
        if (!list) return;
        const { value: now, error } = this.tenant;
        // It is read for the first time.
        if (!now && error === undefined) return;
        const isThis = ({ metadata }: Tenant) =>
            metadata.namespace === this.namespace && metadata.name === this.name;
        const found = list.items.find(isThis);
        if (!found) {
            // Whether it is gone, the API server says.
            if (now && error === undefined) void this.#resource.join();
            return;
        }
        const [before, after] = [now?.metadata.resourceVersion ?? "", found.metadata.resourceVersion];
        // The same one again says that the error before it is over.
        if (error === undefined ? !isOlder(before, after) : isOlder(after, before)) return;
        this.tenant = { value: found };
        this.changed();
        if (now?.metadata.uid === found.metadata.uid) return;
        void this.#surroundings.again();
        void this.#measures.again();
    }

    async #readResource(isNewest: () => boolean): Promise<void> {
        const [tenant] = await Promise.allSettled([this.session.kubernetes.get<Tenant>(this.path)]);
        if (!isNewest() || this.#isOld(tenant)) return;
        this.tenant = taken(this.tenant, tenant);
        this.changed();
    }

    /** Whether an answer is of before what the session has told meanwhile. */
    #isOld(answer: PromiseSettledResult<Tenant>): boolean {
        const now = this.tenant.value;
        if (!now || answer.status === "rejected") return false;
        return isOlder(answer.value.metadata.resourceVersion, now.metadata.resourceVersion);
    }

    async #readSurroundings(isNewest: () => boolean): Promise<void> {
        const { value, error } = this.tenant;
        if (!value || error !== undefined) return;
        const { kubernetes } = this.session;
        const before = this.#around;
        const around = before?.uid === value.metadata.uid ? before : aroundOf(this.namespace, value);
        this.#around = around;
        const { events, deployments } = around;
        const [eventAnswer, deploymentAnswer] = await Promise.allSettled([
            kubernetes.list<KubernetesEvent>(paths.events(this.namespace), selectors(events)),
            kubernetes.list<Deployment>(paths.deployments(this.namespace), selectors(deployments)),
        ]);
        if (!isNewest()) return;
        this.events = kept(this.events, events, eventAnswer);
        if (this.events.value) newestFirst(this.events.value);
        this.deployments = kept(this.deployments, deployments, deploymentAnswer);
        this.changed();
        this.session.live.look();
    }

    async #readMeasures(isNewest: () => boolean): Promise<void> {
        const { value, error } = this.tenant;
        if (!value || error !== undefined) return;
        const labelSelector = selectorOf(value);
        const [pods] = await Promise.allSettled([
            this.session.kubernetes.list<PodMetrics>(paths.podMetrics(this.namespace), { labelSelector }),
        ]);
        if (!isNewest()) return;
        this.pods = taken(this.pods, itemsOf(pods));
        this.changed();
    }
}

type Around = { uid: string; events: KeptList<KubernetesEvent>; deployments: KeptList<Deployment> };

/** Returns the lists of what is around a tenant, before they are read. */
function aroundOf(namespace: string, tenant: Tenant): Around {
    const { uid } = tenant.metadata;
    return {
        uid,
        events: new KeptList({ resource: "events", namespace, fieldSelector: `involvedObject.uid=${uid}` }),
        deployments: new KeptList({ resource: "deployments", namespace, labelSelector: selectorOf(tenant) }),
    };
}

function selectorOf({ spec }: Tenant): string {
    return `${TENANT_LABEL}=${spec.tenantId}`;
}

function selectors({ wanted }: KeptList): Record<string, string | undefined> {
    return { fieldSelector: wanted.fieldSelector, labelSelector: wanted.labelSelector };
}

function newestFirst(events: KubernetesEvent[]): KubernetesEvent[] {
    return events.sort((one, other) => seenAtMs(other) - seenAtMs(one));
}

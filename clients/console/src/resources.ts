// What Kubernetes says of tenants and cells, as far as the console reads it, and what follows from it. No I/O.

export type Condition = {
    type: string;
    status: string;
    reason: string;
    message: string;
    lastTransitionTime: string;
};

export type Metadata = {
    name: string;
    namespace?: string;
    uid: string;
    resourceVersion: string;
    generation?: number;
    creationTimestamp: string;
    deletionTimestamp?: string;
    labels?: Record<string, string>;
    annotations?: Record<string, string>;
    managedFields?: unknown;
};

export type DeletionPolicy = "Retain" | "Delete";

/** How well a tenant meets one goal of its host, as the Prometheus of its cell says. */
export type Objective = {
    name: string;
    /** The part of all events that is to be as it should. */
    target: number;
    /** Of the faults that the target leaves for 30 days. Below 0 it is missed. */
    budgetRemainingPercent: number;
    burning: boolean;
};

/** What its users do and store, as the Prometheus of its cell says, in two digits. What is absent is not known. */
export type Usage = { connections?: number; messagesPerHour?: number; mediaBytes?: number };

export type Tenant = {
    apiVersion: string;
    kind: string;
    metadata: Metadata;
    spec: {
        tenantId: string;
        cellRef: { name: string };
        deletionPolicy?: DeletionPolicy;
        paused?: boolean;
        topology?: string;
        media?: { quotaBytes?: number };
        limits?: Record<string, unknown>;
        [field: string]: unknown;
    };
    status?: {
        observedGeneration?: number;
        cell?: string;
        hosts?: string[];
        endpoints?: { web: string; ws: string; docs: string; issuer: string };
        kafka?: { topics?: Record<string, string> };
        store?: { keyspace?: string };
        generations?: Record<string, string>;
        objectives?: Objective[];
        usage?: Usage;
        conditions?: Condition[];
    };
};

export type Leftover = {
    tenantId: string;
    namespace: string;
    name: string;
    deletionPolicy: DeletionPolicy;
    backends: string[];
};

export type Cell = {
    apiVersion: string;
    kind: string;
    metadata: Metadata;
    spec: {
        capacity: { tenants: number };
        allowedNamespaces?: string[];
        limits?: Record<string, unknown>;
        routing: { domain: string };
        monitoring?: { podMonitors?: unknown; prometheus?: { url: string } };
        [field: string]: unknown;
    };
    status?: { tenants?: number; leftovers?: Leftover[]; conditions?: Condition[] };
};

export type KubernetesEvent = {
    metadata: Metadata;
    type?: string;
    reason?: string;
    message?: string;
    count?: number;
    series?: { count?: number; lastObservedTime?: string };
    eventTime?: string | null;
    lastTimestamp?: string | null;
};

export type Deployment = {
    metadata: Metadata;
    spec: {
        replicas?: number;
        template: {
            spec: {
                containers: {
                    name: string;
                    resources?: { requests?: Record<string, string>; limits?: Record<string, string> };
                }[];
            };
        };
    };
    status?: { readyReplicas?: number; updatedReplicas?: number };
};

export type PodMetrics = {
    metadata: Pick<Metadata, "name" | "labels">;
    containers: { name: string; usage: Record<string, string> }[];
};

/** What a tenant is at, in one word. */
export const PHASES = ["ready", "waiting", "attention", "paused", "suspended", "new", "deleting"] as const;
export type Phase = (typeof PHASES)[number];

/** Reasons that pass by themselves: the operator or Kubernetes goes on. The others need someone. */
const PASSING = new Set(["Creating", "DependencyNotReady", "RolloutInProgress", "BackendBusy", "Terminating"]);

export function readyOf(resource: Tenant | Cell): Condition | undefined {
    return resource.status?.conditions?.find(({ type }) => type === "Ready");
}

export function phaseOf(tenant: Tenant): Phase {
    const ready = readyOf(tenant);
    if (tenant.metadata.deletionTimestamp !== undefined) return "deleting";
    if (tenant.spec.paused === true) return "paused";
    if (!ready) return "new";
    // What is said of an older manifest does not hold for this one.
    if ((tenant.status?.observedGeneration ?? 0) < (tenant.metadata.generation ?? 0)) return "waiting";
    if (ready.status === "True") return "ready";
    if (ready.reason === "Suspended") return "suspended";
    return PASSING.has(ready.reason) ? "waiting" : "attention";
}

/** Without a quota of its own. */
const MEDIA_BYTES = 10 * 2 ** 30;

/** Returns how many bytes its files may take together. */
export function mediaQuotaOf({ spec }: Tenant): number {
    return spec.media?.quotaBytes ?? MEDIA_BYTES;
}

/** Returns what is known of some figures together, or nothing where nothing is. */
export function sumOf(figures: readonly (number | undefined)[]): number | undefined {
    const known = figures.filter((figure) => figure !== undefined);
    return known.length === 0 ? undefined : known.reduce((sum, figure) => sum + figure, 0);
}

/** How a tenant is at an objective, the worst first. */
export const OBJECTIVE_STATES = ["missed", "burning", "met"] as const;
export type ObjectiveState = (typeof OBJECTIVE_STATES)[number];

export function stateOf({ budgetRemainingPercent, burning }: Objective): ObjectiveState {
    if (budgetRemainingPercent < 0) return "missed";
    return burning ? "burning" : "met";
}

/** Splits a message of a condition into what is the matter and what to do next: the operator puts a semicolon between them. */
export function stepOf({ status, reason, message }: Condition): { matter: string; step?: string } {
    const [, text, also] = /^(.*?)( \(also not ready: [^)]*\))?$/s.exec(message)!;
    const at = text!.lastIndexOf("; ");
    if (status === "True" || PASSING.has(reason) || at < 0) return { matter: message };
    return { matter: text!.slice(0, at) + (also ?? ""), step: text!.slice(at + 2) };
}

/** Returns the conditions in the order of what to do first: those that need someone, those that pass, those that hold. */
export function byUrgency(conditions: readonly Condition[]): Condition[] {
    const rank = ({ status, reason }: Condition) => (status === "True" ? 2 : PASSING.has(reason) ? 1 : 0);
    return [...conditions].sort((a, b) => rank(a) - rank(b));
}

/** Returns when an Event was last seen, in whichever of its forms it is. */
export function seenAtMs({ series, lastTimestamp, eventTime, metadata }: KubernetesEvent): number {
    const at = series?.lastObservedTime ?? lastTimestamp ?? eventTime ?? metadata.creationTimestamp;
    return Date.parse(at);
}

/** Returns the manifest of an object: what users write, without what Kubernetes and the operator add. */
export function manifestOf({ apiVersion, kind, metadata, spec }: Tenant | Cell): Record<string, unknown> {
    const { name, namespace, labels, annotations } = metadata;
    const { "kubectl.kubernetes.io/last-applied-configuration": _, ...own } = annotations ?? {};
    return {
        apiVersion,
        kind,
        metadata: {
            name,
            ...(namespace !== undefined && { namespace }),
            ...(labels && { labels }),
            ...(Object.keys(own).length > 0 && { annotations: own }),
        },
        spec,
    };
}

const UNITS: Record<string, number> = {
    n: 1e-9,
    u: 1e-6,
    m: 1e-3,
    "": 1,
    k: 1e3,
    M: 1e6,
    G: 1e9,
    T: 1e12,
    P: 1e15,
    E: 1e18,
    Ki: 2 ** 10,
    Mi: 2 ** 20,
    Gi: 2 ** 30,
    Ti: 2 ** 40,
    Pi: 2 ** 50,
    Ei: 2 ** 60,
};

/** Returns an amount of Kubernetes as a number: cores or bytes. What is not one counts nothing. */
export function amount(text: string | undefined): number {
    const [, number, unit] = /^([0-9.]+(?:[eE][+-]?[0-9]+)?)([numkMGTPE]i?)?$/.exec(text ?? "") ?? [];
    const factor = UNITS[unit ?? ""];
    return number === undefined || factor === undefined ? 0 : Number(number) * factor;
}

/** What takes something of a node. */
export type Amounts = { cpu: number; memoryBytes: number };

/** Returns what the pods of some Deployments request together. */
export function requested(deployments: readonly Deployment[]): Amounts {
    const sum = { cpu: 0, memoryBytes: 0 };
    for (const { spec } of deployments) {
        for (const { resources } of spec.template.spec.containers) {
            sum.cpu += amount(resources?.requests?.["cpu"]) * (spec.replicas ?? 1);
            sum.memoryBytes += amount(resources?.requests?.["memory"]) * (spec.replicas ?? 1);
        }
    }
    return sum;
}

/** Returns what pods take together, as the cluster has measured. */
export function measured(pods: readonly PodMetrics[]): Amounts {
    const usages = pods.flatMap(({ containers }) => containers.map(({ usage }) => usage));
    return {
        cpu: usages.reduce((sum, usage) => sum + amount(usage["cpu"]), 0),
        memoryBytes: usages.reduce((sum, usage) => sum + amount(usage["memory"]), 0),
    };
}

// An API server behind the console, as far as the page sees it: rights by namespace, lists in parts, watches, dry runs, conflicts.
import { vi } from "vitest";
import type { Wanted } from "../src/kept";
import type {
    Cell,
    Condition,
    Deployment,
    KubernetesEvent,
    Metadata,
    PodMetrics,
    Tenant,
} from "../src/resources";

export const TOKEN = "a-token";
const GROUP = "/apis/messenger.posthouse.dev/v1alpha1";

export function condition(type: string, status = "True", reason = "InSync"): Condition {
    return { type, status, reason, message: `${type} says so`, lastTransitionTime: "2026-11-29T00:00:00Z" };
}

type Options = { conditions?: Condition[]; paused?: boolean; generation?: number; cell?: string };

export function tenant(name: string, options: Options = {}): Tenant {
    const { conditions = [condition("Ready", "True", "AllReady")], paused, generation = 1 } = options;
    return {
        apiVersion: "messenger.posthouse.dev/v1alpha1",
        kind: "MessengerTenant",
        metadata: {
            name,
            namespace: name,
            uid: `uid-${name}`,
            resourceVersion: "1",
            generation,
            creationTimestamp: "2026-11-28T00:00:00Z",
        },
        spec: {
            tenantId: name,
            cellRef: { name: "local" },
            ...(paused !== undefined && { paused }),
        },
        status: {
            observedGeneration: 1,
            cell: "local",
            hosts: [`${name}.example`],
            kafka: { topics: { [`${name}.message.send`]: "id" } },
            store: { keyspace: `mt_${name}` },
            generations: { cql: "1", postgres: "2" },
            conditions,
        },
    };
}

export function cell(name: string, tenants: number, capacity: number): Cell {
    return {
        apiVersion: "messenger.posthouse.dev/v1alpha1",
        kind: "MessengerCell",
        metadata: {
            name,
            uid: `uid-${name}`,
            resourceVersion: "1",
            creationTimestamp: "2026-11-28T00:00:00Z",
        },
        spec: { capacity: { tenants: capacity }, routing: { domain: "example" } },
        status: { tenants, conditions: [condition("Ready", "True", "AllReady")] },
    };
}

export function deployment(name: string, replicas: number): Deployment {
    const requests = { cpu: "100m", memory: "32Mi" };
    return {
        metadata: {
            name,
            uid: `uid-${name}`,
            resourceVersion: "1",
            creationTimestamp: "2026-11-28T00:00:00Z",
        },
        spec: { replicas, template: { spec: { containers: [{ name: "c", resources: { requests } }] } } },
        status: { readyReplicas: replicas, updatedReplicas: replicas },
    };
}

type Answer = { code: number; body: unknown };
type Call = { method: string; path: string; query: URLSearchParams; body: string; token: string | null };

type Event = { version: number; resource: Wanted["resource"]; type: string; object: { metadata: Metadata } };

/** A body that goes on until it is ended, cut, or given up by its reader. */
class Lines {
    readonly #lines: string[] = [];
    #end: (() => { done: true }) | undefined;
    #wake: () => void = () => undefined;

    constructor(
        readonly wanted: readonly (Wanted & { resourceVersion: string })[],
        signal: AbortSignal | null | undefined,
    ) {
        signal?.addEventListener("abort", () => this.cut());
    }

    push(of: number, type: string, object: unknown): void {
        this.#lines.push(`${JSON.stringify([of, { type, object }])}\n`);
        this.#wake();
    }

    end(): void {
        this.#end ??= () => ({ done: true });
        this.#wake();
    }

    cut(): void {
        this.#end ??= () => {
            throw new TypeError("network error");
        };
        this.#wake();
    }

    getReader(): { read: () => Promise<{ done: boolean; value?: Uint8Array }> } {
        return { read: () => this.#read() };
    }

    async #read(): Promise<{ done: boolean; value?: Uint8Array }> {
        while (this.#lines.length === 0) {
            if (this.#end) return this.#end();
            await new Promise<void>((resolve) => (this.#wake = resolve));
        }
        return { done: false, value: new TextEncoder().encode(this.#lines.splice(0).join("")) };
    }
}

/** Stands in for `fetch`. A test says what is there and what the user may do. */
export class FakeKubernetes {
    tenants: Tenant[] = [];
    cells: Cell[] = [];
    events: KubernetesEvent[] = [];
    deployments: Deployment[] = [];
    /** Absent where the cluster does not measure. */
    pods: PodMetrics[] | undefined;
    username = "ann";
    /** The namespaces in which the user has rights; absent for an administrator. */
    namespaces: string[] | undefined;
    mayWrite = true;
    takesToken = true;
    isDown = false;
    /** Lists of everything are a fault of the server. */
    failsLists = false;
    /** Who else owns `spec.deletionPolicy`. */
    owner: string | undefined;
    pageSize = 500;
    /** Of the last change that a test made. */
    version = 1;
    /** Watches from a version before it do not go on. */
    oldest = 0;
    readonly #history: Event[] = [];
    readonly #streams = new Set<Lines>();
    readonly calls: Call[] = [];
    /** Holds back the answer to a call, which is of the moment when it was asked. */
    holds: (call: Call) => Promise<void> | undefined = () => undefined;
    /** What an apply makes of the text, as the server's reader of YAML would. */
    onApply: (before: Tenant, text: string) => Tenant = (before) => before;
    /** The same of a cell. */
    onApplyCell: (before: Cell, text: string) => Cell = (before) => before;

    install(): void {
        vi.stubGlobal("fetch", (url: string, options: RequestInit) => this.#fetch(url, options));
    }

    of(method: string): Call[] {
        return this.calls.filter((call) => call.method === method);
    }

    /** Changes something as another user would: lists have it, and watches. */
    change<T extends { metadata: Metadata }>(resource: Wanted["resource"], type: string, object: T): void {
        this.version += 1;
        const now = { ...object, metadata: { ...object.metadata, resourceVersion: String(this.version) } };
        const changed = <U extends { metadata: Metadata }>(all: U[]) => {
            const others = all.filter(({ metadata }) => metadata.uid !== now.metadata.uid);
            return type === "DELETED" ? others : [...others, now as unknown as U];
        };
        if (resource === "messengertenants") this.tenants = changed(this.tenants);
        else if (resource === "messengercells") this.cells = changed(this.cells);
        else if (resource === "events") this.events = changed(this.events);
        else this.deployments = changed(this.deployments);
        const event = { version: this.version, resource, type, object: now };
        this.#history.push(event);
        for (const stream of this.#streams) this.#tell(stream, event);
    }

    /** Cuts what is watched. */
    cut(): void {
        for (const stream of this.#streams) stream.cut();
        this.#streams.clear();
    }

    #watch({ body }: Call, signal: AbortSignal | null | undefined): Response {
        const stream = new Lines(JSON.parse(body) as Lines["wanted"], signal);
        this.#streams.add(stream);
        for (const [of, { namespace, resourceVersion }] of stream.wanted.entries()) {
            if (!this.#may(namespace)) stream.push(of, "ERROR", refused(403, "cannot watch").body);
            else if (Number(resourceVersion) < this.oldest)
                stream.push(of, "ERROR", refused(410, "too old resource version").body);
        }
        for (const event of this.#history) this.#tell(stream, event);
        return { ok: true, status: 200, body: stream } as unknown as Response;
    }

    #tell(stream: Lines, { version, resource, type, object }: Event): void {
        for (const [of, wanted] of stream.wanted.entries()) {
            const { namespace } = wanted;
            const isOfIt =
                wanted.resource === resource &&
                [undefined, object.metadata.namespace].includes(namespace) &&
                version > Number(wanted.resourceVersion) &&
                Number(wanted.resourceVersion) >= this.oldest;
            if (!isOfIt) continue;
            if (this.#may(namespace)) stream.push(of, type, object);
            else stream.push(of, "ERROR", refused(403, "cannot watch any more").body);
        }
    }

    async #fetch(url: string, options: RequestInit): Promise<Response> {
        await Promise.resolve();
        if (this.isDown) throw new TypeError("failed to fetch");
        const { pathname, searchParams } = new URL(url, "http://localhost");
        const headers = new Headers(options.headers);
        const call = {
            method: options.method ?? "GET",
            path: pathname.replace(/^\/k8s/, ""),
            query: searchParams,
            body: String(options.body ?? ""),
            token: headers.get("authorization"),
        };
        this.calls.push(call);
        const isSignedIn = call.token === `Bearer ${TOKEN}` && this.takesToken;
        if (isSignedIn && call.path === "/watch") return this.#watch(call, options.signal);
        const { code, body } = this.#answer(call);
        const text = typeof body === "string" ? body : JSON.stringify(body);
        await this.holds(call);
        return new Response(text, { status: code });
    }

    #answer(call: Call): Answer {
        if (call.token !== `Bearer ${TOKEN}` || !this.takesToken) return refused(401, "Unauthorized");
        const { method, path } = call;
        if (path.endsWith("/selfsubjectreviews"))
            return { code: 201, body: { status: { userInfo: { username: this.username } } } };
        if (path.endsWith("/selfsubjectaccessreviews")) {
            const { spec } = JSON.parse(call.body) as { spec: { resourceAttributes: { namespace: string } } };
            const allowed = this.mayWrite && this.#may(spec.resourceAttributes.namespace);
            return { code: 201, body: { status: { allowed } } };
        }
        const namespace = /\/namespaces\/([^/]+)\//.exec(path)?.[1];
        if (!this.#may(namespace)) return refused(403, `User "${this.username}" cannot do this`);
        if (this.failsLists && namespace === undefined) return refused(500, "etcd is away");
        if (path === `${GROUP}/messengercells`) return this.#list(this.cells, call);
        const cell = this.cells.find(({ metadata }) => path === `${GROUP}/messengercells/${metadata.name}`);
        if (cell && method === "GET") return { code: 200, body: cell };
        if (cell && !this.mayWrite) return refused(403, `User "${this.username}" cannot ${method}`);
        if (cell) {
            const changed = this.onApplyCell(structuredClone(cell), call.body);
            if (call.query.get("dryRun") !== "All")
                this.cells = this.cells.map((other) => (other === cell ? changed : other));
            return { code: 200, body: changed };
        }
        if (path.endsWith("/events")) return this.#list(this.events, call);
        if (path.endsWith("/deployments")) return this.#list(this.deployments, call);
        if (path.endsWith("/pods"))
            return this.pods ? this.#list(this.pods, call) : { code: 404, body: "404 page not found\n" };
        const name = /\/messengertenants\/([^/]+)$/.exec(path)?.[1];
        const mine = this.tenants.filter(
            ({ metadata }) => namespace === undefined || metadata.namespace === namespace,
        );
        if (name === undefined) return this.#list(mine, call);
        const found = mine.find(({ metadata }) => metadata.name === name);
        if (!found && method === "PATCH" && this.mayWrite) return this.#create(namespace!, name, call);
        if (!found) return refused(404, `messengertenants "${name}" not found`);
        if (method === "GET") return { code: 200, body: found };
        if (!this.mayWrite) return refused(403, `User "${this.username}" cannot ${method}`);
        if (method === "DELETE") {
            if (call.query.get("uid") !== found.metadata.uid) return refused(409, "another UID");
            this.tenants = this.tenants.filter((other) => other !== found);
            return { code: 200, body: { status: "Success" } };
        }
        return this.#patch(found, call);
    }

    /** What applying makes of nothing. The names of the text are those of the path. */
    #create(namespace: string, name: string, { query, body }: Call): Answer {
        const value = (field: string) => new RegExp(`^ {2}${field}: (\\S+)$`, "m").exec(body)?.[1];
        if (value("name") !== name || value("namespace") !== namespace)
            return refused(400, "the name of the object does not match the name on the URL");
        const made = tenant(name);
        made.metadata.namespace = namespace;
        made.spec = { tenantId: value("tenantId")!, cellRef: { name: "local" } };
        delete made.status;
        if (query.get("dryRun") !== "All") this.tenants = [...this.tenants, made];
        return { code: 201, body: made };
    }

    #patch(found: Tenant, { query, body }: Call): Answer {
        let changed: Tenant;
        if (body.startsWith("{")) {
            const { spec } = JSON.parse(body) as { spec: Partial<Tenant["spec"]> };
            changed = { ...found, spec: { ...found.spec, ...spec } };
        } else {
            if (this.owner !== undefined && query.get("force") !== "true") {
                const answer = refused(409, "Apply failed with 1 conflict");
                const cause = {
                    reason: "FieldManagerConflict",
                    field: ".spec.deletionPolicy",
                    message: `conflict with "${this.owner}"`,
                };
                return { ...answer, body: { ...(answer.body as object), details: { causes: [cause] } } };
            }
            changed = this.onApply(structuredClone(found), body);
        }
        if (query.get("dryRun") !== "All")
            this.tenants = this.tenants.map((other) => (other === found ? changed : other));
        return { code: 200, body: changed };
    }

    #list(items: unknown[], { query }: Call): Answer {
        const from = Number(query.get("continue") ?? 0);
        const to = from + Math.min(this.pageSize, Number(query.get("limit")));
        const more = to < items.length ? String(to) : undefined;
        return {
            code: 200,
            body: {
                items: items.slice(from, to),
                metadata: { continue: more, resourceVersion: String(this.version) },
            },
        };
    }

    #may(namespace: string | undefined): boolean {
        if (this.namespaces === undefined) return true;
        return namespace !== undefined && this.namespaces.includes(namespace);
    }
}

function refused(code: number, message: string): Answer {
    return { code, body: { kind: "Status", status: "Failure", code, message } };
}

// Kubernetes as the console calls it: by the API server's own paths, with the token of the user, who may do by kubectl all that is done here.

const GROUP = "/apis/messenger.posthouse.dev/v1alpha1";
/** A list comes in parts of it. */
const PAGE = 500;
/** What is not answered by then is not. */
const TIME_LIMIT_MS = 60_000;

type Status = {
    message?: string;
    reason?: string;
    details?: { causes?: { reason?: string; message?: string; field?: string }[] };
};

/** The API server, or the console before it, refused. */
export class Refusal extends Error {
    constructor(
        readonly code: number,
        readonly status: Status,
    ) {
        super(status.message || `HTTP ${code}`);
    }

    /** Whether the token is not taken any more. */
    get isSignedOut(): boolean {
        return this.code === 401;
    }

    get isForbidden(): boolean {
        return this.code === 403;
    }

    get isNotFound(): boolean {
        return this.code === 404;
    }

    /** The fields that others own, each with what the API server says of it. */
    get conflicts(): { field: string; message: string }[] {
        const causes = this.status.details?.causes ?? [];
        return causes
            .filter(({ reason }) => reason === "FieldManagerConflict")
            .map(({ field, message }) => ({ field: field ?? "", message: message ?? "" }));
    }
}

/** Nothing answered. */
export class Unreachable extends Error {}

export type Verb = "get" | "list" | "create" | "patch" | "delete";
type Query = Record<string, string | undefined>;
type List<T> = { items?: T[]; metadata?: { continue?: string } };

export const paths = {
    tenants: (namespace?: string) =>
        namespace === undefined
            ? `${GROUP}/messengertenants`
            : `${GROUP}/namespaces/${namespace}/messengertenants`,
    tenant: (namespace: string, name: string) => `${GROUP}/namespaces/${namespace}/messengertenants/${name}`,
    cells: () => `${GROUP}/messengercells`,
    cell: (name: string) => `${GROUP}/messengercells/${name}`,
    deployments: (namespace: string) => `/apis/apps/v1/namespaces/${namespace}/deployments`,
    podMetrics: (namespace: string) => `/apis/metrics.k8s.io/v1beta1/namespaces/${namespace}/pods`,
    events: (namespace: string) => `/api/v1/namespaces/${namespace}/events`,
};

/** The API server, with the token of one user: in memory, and in no other place. */
export class Kubernetes {
    /** Called when the token is not taken any more. */
    onEnded: () => void = () => undefined;
    readonly #token: string;

    constructor(token: string) {
        this.#token = token;
    }

    get<T>(path: string): Promise<T> {
        return this.#call<T>("GET", path);
    }

    /** Returns all items of a list; `items` of lists have no kind of their own. */
    async list<T>(path: string, query: Query = {}): Promise<T[]> {
        const items: T[] = [];
        let after: string | undefined;
        do {
            const page: List<T> = await this.#call<List<T>>("GET", path, {
                ...query,
                limit: String(PAGE),
                continue: after,
            });
            items.push(...(page.items ?? []));
            after = page.metadata?.continue || undefined;
        } while (after !== undefined);
        return items;
    }

    /** Applies a manifest, or returns what that would give. `takesOver`: also fields that others own. */
    apply<T>(path: string, manifest: string, options: { isPlan: boolean; takesOver: boolean }): Promise<T> {
        const query = {
            dryRun: options.isPlan ? "All" : undefined,
            force: options.takesOver ? "true" : undefined,
        };
        return this.#call<T>("PATCH", path, query, { type: "application/apply-patch+yaml", text: manifest });
    }

    /** Changes single fields. */
    merge<T>(path: string, change: unknown): Promise<T> {
        const text = JSON.stringify(change);
        return this.#call<T>("PATCH", path, {}, { type: "application/merge-patch+json", text });
    }

    /** Deletes the object with this UID, and no other one of its name. */
    async delete(path: string, uid: string): Promise<void> {
        await this.#call("DELETE", path, { uid });
    }

    /** Returns the user's name, as Kubernetes knows it. */
    async username(): Promise<string> {
        const review = { apiVersion: "authentication.k8s.io/v1", kind: "SelfSubjectReview" };
        const path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
        const answer = await this.#review<{ status?: { userInfo?: { username?: string } } }>(path, review);
        return answer.status?.userInfo?.username ?? "";
    }

    /**
     * Returns whether the user may do something to the tenants of a namespace, or to cells, which have none. It decides nothing: the API server
     * does, at each call.
     */
    async may(verb: Verb, namespace?: string): Promise<boolean> {
        const resource = namespace === undefined ? "messengercells" : "messengertenants";
        const review = {
            apiVersion: "authorization.k8s.io/v1",
            kind: "SelfSubjectAccessReview",
            spec: {
                resourceAttributes: {
                    ...(namespace !== undefined && { namespace }),
                    ...{ verb, group: "messenger.posthouse.dev", resource },
                },
            },
        };
        const path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        const answer = await this.#review<{ status?: { allowed?: boolean } }>(path, review);
        return answer.status?.allowed === true;
    }

    #review<T>(path: string, review: unknown): Promise<T> {
        return this.#call<T>("POST", path, {}, { type: "application/json", text: JSON.stringify(review) });
    }

    async #call<T>(
        method: string,
        path: string,
        query: Query = {},
        body?: { type: string; text: string },
    ): Promise<T> {
        const given = Object.entries(query).filter((pair): pair is [string, string] => pair[1] !== undefined);
        const search = new URLSearchParams(given);
        const url = `/k8s${path}${search.size > 0 ? `?${search}` : ""}`;
        let response: Response;
        let text: string;
        try {
            response = await fetch(url, {
                method,
                headers: {
                    authorization: `Bearer ${this.#token}`,
                    ...(body && { "content-type": body.type }),
                },
                ...(body && { body: body.text }),
                cache: "no-store",
                credentials: "omit",
                redirect: "error",
                signal: AbortSignal.timeout(TIME_LIMIT_MS),
            });
            text = await response.text();
        } catch (cause) {
            throw new Unreachable("", { cause });
        }
        const answer = parsed(text);
        if (!response.ok) {
            const refusal = new Refusal(response.status, (answer ?? { message: text.trim() }) as Status);
            if (refusal.isSignedOut) this.onEnded();
            throw refusal;
        }
        // A proxy of the installation may answer in place of the console.
        if (answer === undefined) throw new Unreachable(`HTTP ${response.status}`);
        return answer as T;
    }
}

function parsed(text: string): unknown {
    try {
        const value: unknown = JSON.parse(text);
        return typeof value === "object" && value !== null ? value : undefined;
    } catch {
        return undefined;
    }
}

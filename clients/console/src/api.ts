// Kubernetes as the console calls it: by the API server's own paths, with the token of the user, who may do by kubectl all that is done here.

import type { Change, Listed, Wanted } from "./kept";

const GROUP = "/apis/messenger.posthouse.dev/v1alpha1";
/** A list comes in parts of it. */
const PAGE = 500;
/** What is not answered by then is not. */
const TIME_LIMIT_MS = 60_000;
/** A stream that says nothing for so long is cut: the console says every ten seconds that it goes on. */
const QUIET_LIMIT_MS = 45_000;

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

    /** Whether a watch goes on from this version no more. */
    get isExpired(): boolean {
        return this.code === 410;
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
type List<T> = { items?: T[]; metadata?: { continue?: string; resourceVersion?: string } };

/** An event, and the number of the list that it is of. */
export type WatchEvent = Change & { of: number };

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

    /** Reads a whole list; `items` of lists have no kind of their own. */
    async list<T>(path: string, query: Query = {}): Promise<Listed<T>> {
        const items: T[] = [];
        let [after, version]: [string | undefined, string] = [undefined, ""];
        do {
            const page: List<T> = await this.#call<List<T>>("GET", path, {
                ...query,
                limit: String(PAGE),
                continue: after,
            });
            items.push(...(page.items ?? []));
            after = page.metadata?.continue || undefined;
            // That of the first part, even where Kubernetes could not go on with it: what happened since comes once more.
            version ||= page.metadata?.resourceVersion ?? "";
        } while (after !== undefined);
        return { items, version };
    }

    /**
     * Follows lists, each from a version of it, and returns what happens as it comes. The first of it is empty: the console has begun. It ends by
     * its time, or fails; the lists are then followed from where they are.
     */
    async *watch(
        wanted: readonly (Wanted & { resourceVersion: string })[],
        abort: AbortController,
    ): AsyncGenerator<WatchEvent[], void, undefined> {
        let timer: ReturnType<typeof setTimeout> | undefined;
        const waitFor = async <T>(answer: Promise<T>): Promise<T> => {
            clearTimeout(timer);
            timer = setTimeout(() => abort.abort(), QUIET_LIMIT_MS);
            try {
                return await answer;
            } catch (cause) {
                throw new Unreachable("", { cause });
            }
        };
        try {
            const body = { type: "application/json", text: JSON.stringify(wanted) };
            const response = await waitFor(this.#fetch("POST", "/watch", abort.signal, body));
            if (!response.ok) throw this.#refusal(response.status, await waitFor(response.text()));
            if (!response.body) throw new Unreachable(`HTTP ${response.status}`);
            yield [];
            const [reader, decoder] = [response.body.getReader(), new TextDecoder()];
            let text = "";
            for (;;) {
                const { done, value } = await waitFor(reader.read());
                if (done) return;
                const lines = (text + decoder.decode(value, { stream: true })).split("\n");
                text = lines.pop() ?? "";
                yield lines.filter((line) => line !== "").map(eventOf);
            }
        } finally {
            clearTimeout(timer);
            // Who wants no more of it leaves it.
            abort.abort();
        }
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
            response = await this.#fetch(method, url, AbortSignal.timeout(TIME_LIMIT_MS), body);
            text = await response.text();
        } catch (cause) {
            throw new Unreachable("", { cause });
        }
        if (!response.ok) throw this.#refusal(response.status, text);
        const answer = parsed(text);
        // A proxy of the installation may answer in place of the console.
        if (answer === undefined) throw new Unreachable(`HTTP ${response.status}`);
        return answer as T;
    }

    #fetch(
        method: string,
        url: string,
        signal: AbortSignal,
        body: { type: string; text: string } | undefined,
    ): Promise<Response> {
        return fetch(url, {
            method,
            headers: {
                authorization: `Bearer ${this.#token}`,
                ...(body && { "content-type": body.type }),
            },
            ...(body && { body: body.text }),
            cache: "no-store",
            credentials: "omit",
            redirect: "error",
            signal,
        });
    }

    #refusal(code: number, text: string): Refusal {
        const refusal = new Refusal(code, (parsed(text) ?? { message: text.trim() }) as Status);
        if (refusal.isSignedOut) this.onEnded();
        return refusal;
    }
}

/** Returns the event of a line of a stream. */
function eventOf(line: string): WatchEvent {
    const [of, { type, object }] = JSON.parse(line) as [number, Change];
    return { of, type, object };
}

function parsed(text: string): unknown {
    try {
        const value: unknown = JSON.parse(text);
        return typeof value === "object" && value !== null ? value : undefined;
    } catch {
        return undefined;
    }
}

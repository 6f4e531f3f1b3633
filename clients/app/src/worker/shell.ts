// The files of the page, kept so that it opens without a connection.

/** What of the browser it uses. */
export type Host = {
    caches: Pick<CacheStorage, "open" | "keys" | "delete" | "match">;
    fetch: (request: Request | string, init?: RequestInit) => Promise<Response>;
    /** How long the network has before what is kept is shown. */
    patienceMs: number;
    /** Ends this worker: pages that are opened from then on come from the network alone. */
    leave: () => Promise<unknown>;
};

/** The files of a build. */
export type Build = { id: string; files: readonly string[]; entry: string };

/** The page's status where there is to be no web client any more. A path that is missing for a moment, as while a release begins, is none. */
const GONE = 410;
export const CACHE_PREFIX = "posthouse-shell-";
const PAGE = "/";
const CONFIG = "/app/config.json";
/** Says that a response is of an earlier time, since the messenger did not answer. */
export const KEPT_HEADER = "posthouse-kept";

/** How a path is answered: `undefined` for what is none of the page's files, which goes to the network as ever. */
export type Way = "immutable" | "fresh";

/** Returns how a request of the page is answered. */
export function wayOf(method: string, url: URL, origin: string): Way | undefined {
    if (method !== "GET" || url.origin !== origin) return undefined;
    if (url.pathname.startsWith("/app/assets/")) return "immutable";
    const isFile = url.pathname === PAGE || /^\/app\/[\w.-]+\.(json|svg|png|webmanifest)$/.test(url.pathname);
    return isFile ? "fresh" : undefined;
}

export class Shell {
    readonly #host: Host;
    readonly #build: Build;

    constructor(host: Host, build: Build) {
        this.#host = host;
        this.#build = build;
    }

    get #name(): string {
        return `${CACHE_PREFIX}${this.#build.id}`;
    }

    /** Fetches all files of this build, or none: while a new release begins, another replica may still have the page of the one before. */
    async install(): Promise<void> {
        const { fetch, caches } = this.#host;
        const [page, config, ...files] = await Promise.all(
            [PAGE, CONFIG, ...this.#build.files].map(async (path) => {
                const response = await fetch(path, path.includes("/assets/") ? {} : { cache: "reload" });
                if (!response.ok) throw new Error(`${path}: status ${response.status}`);
                return response;
            }),
        );
        if (!(await page!.clone().text()).includes(this.#build.entry))
            throw new Error("the page is of another release than this worker");
        const cache = await caches.open(this.#name);
        await Promise.all([
            cache.put(PAGE, page!),
            cache.put(CONFIG, config!),
            ...files.map((response, at) => cache.put(this.#build.files[at]!, response)),
        ]);
    }

    /** Whether a page with this script is of this build. */
    has(script: string): boolean {
        return this.#build.files.includes(script);
    }

    /** Forgets other builds. An open page of one may still need files of it, which the messenger has no more. */
    async forgetOthers(): Promise<void> {
        const { caches } = this.#host;
        const names = await caches.keys();
        const others = names.filter((name) => name.startsWith(CACHE_PREFIX) && name !== this.#name);
        await Promise.all(others.map((name) => caches.delete(name)));
    }

    /** Answers a request of the page. */
    async answer(way: Way, request: Request): Promise<Response> {
        const { caches, fetch } = this.#host;
        // A file with a hash in its name is the same in every build that has it.
        if (way === "immutable") return (await caches.match(request)) ?? fetch(request);
        return this.#fresh(request);
    }

    /** Asks the network, and shows what is kept when that has no answer in time. */
    async #fresh(request: Request): Promise<Response> {
        const { fetch, patienceMs } = this.#host;
        const path = new URL(request.url).pathname;
        const asked = fetch(request);
        let timer: ReturnType<typeof setTimeout> | undefined;
        const late = new Promise<undefined>((resolve) => {
            timer = setTimeout(() => resolve(undefined), patienceMs);
        });
        const response = await Promise.race([asked, late]).catch(() => undefined);
        clearTimeout(timer);
        if (response?.status === GONE && path === PAGE) await this.#end();
        if (response && response.status < 500 && response.status !== 404) {
            if (path === CONFIG && response.ok) await this.#keepConfig(response.clone());
            return response;
        }
        const kept = await this.#kept(path);
        if (kept) {
            asked.catch(() => undefined);
            return kept;
        }
        return response ?? asked;
    }

    /** Forgets the files of all builds, and ends the worker. */
    async #end(): Promise<void> {
        const { caches, leave } = this.#host;
        const names = (await caches.keys()).filter((name) => name.startsWith(CACHE_PREFIX));
        // What is left is tried by the next answer.
        await Promise.allSettled([...names.map((name) => caches.delete(name)), leave()]);
    }

    async #keepConfig(response: Response): Promise<void> {
        const cache = await this.#host.caches.open(this.#name);
        // A full disk is no reason to show nothing.
        await cache.put(CONFIG, response).catch(() => undefined);
    }

    async #kept(path: string): Promise<Response | undefined> {
        const cache = await this.#host.caches.open(this.#name);
        const found = await cache.match(path);
        if (!found || path !== CONFIG) return found;
        const headers = new Headers(found.headers);
        headers.set(KEPT_HEADER, "yes");
        return new Response(await found.text(), { status: found.status, headers });
    }
}

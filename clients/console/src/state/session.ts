// A user who has signed in: who that is, and what of the installation they see. Lists are asked for again while the page is looked at.
import { Reading } from "../../../app/src/shared/reading";
import { Source } from "../../../app/src/shared/source";
import { Kubernetes, paths, Refusal } from "../api";
import { NAMESPACE_NAME } from "../names";
import type { Cell, Tenant } from "../resources";

/** A list is a few kilobytes for each tenant. */
const REFRESH_MS = 10_000;
const KEY = "posthouse.console.namespaces";
/** Of a ServiceAccount: its namespace is a good guess where its tenants are. */
const ACCOUNT = /^system:serviceaccount:([a-z0-9-]+):/;

/** What is read of Kubernetes: not yet, there, or refused. What was there stays beside an error that came later. */
export type Part<T> = { value?: T; error?: unknown };

/** The token is of another user than the one who is signed in. */
export class OtherUser extends Error {}

export class Session extends Source {
    /** The tenants that the user may list, in the order of their names. */
    tenants: Part<Tenant[]> = {};
    cells: Part<Cell[]> = {};
    /** Those whose tenants are listed; absent where the user may list all. */
    namespaces: string[] | undefined;
    /** Namespaces whose tenants the user may not list, each with the refusal. */
    refused: ReadonlyMap<string, Refusal> = new Map();
    /** Whether the user may change cells, as far as it is known: one right for all of them. */
    mayPatchCells: boolean | undefined;
    /** When the lists were read last. */
    asOfMs = 0;
    /** Kubernetes does not take the token any more. */
    hasEnded = false;
    #timer: ReturnType<typeof setInterval> | undefined;
    readonly #reading = new Reading((isNewest) => this.#read(isNewest));

    private constructor(
        /** With the token that is in use. */
        public kubernetes: Kubernetes,
        readonly username: string,
        namespaces: string[] | undefined,
    ) {
        super();
        this.namespaces = namespaces;
        this.#heed(kubernetes);
    }

    /** Signs in, and finds out what the user may list. Rejects when Kubernetes does not take the token, or does not answer. */
    static async open(token: string, named: readonly string[]): Promise<Session> {
        const kubernetes = new Kubernetes(token);
        const username = await kubernetes.username();
        const [, own] = ACCOUNT.exec(username) ?? [];
        const namespaces = [...new Set([...named, ...(own === undefined ? [] : [own])])].sort();
        let seesAll = true;
        try {
            await kubernetes.list<Tenant>(paths.tenants());
        } catch (error) {
            if (!(error instanceof Refusal && error.isForbidden)) throw error;
            seesAll = false;
        }
        const session = new Session(kubernetes, username, seesAll ? undefined : namespaces);
        if (!seesAll) remember(named);
        await session.refresh();
        return session;
    }

    /** Goes on with another token of the same user: what is being written stays. */
    async renew(token: string): Promise<void> {
        const kubernetes = new Kubernetes(token);
        if ((await kubernetes.username()) !== this.username) throw new OtherUser();
        this.kubernetes = kubernetes;
        this.#heed(kubernetes);
        this.hasEnded = false;
        this.changed();
        await this.#reading.again();
    }

    /** Reads the lists again and again, until the returned function is called. */
    start(): () => void {
        const refresh = () => {
            if (document.visibilityState === "visible" && !this.hasEnded) void this.refresh();
        };
        this.#timer = setInterval(refresh, REFRESH_MS);
        document.addEventListener("visibilitychange", refresh);
        return () => {
            clearInterval(this.#timer);
            document.removeEventListener("visibilitychange", refresh);
        };
    }

    /** Reads the lists, or waits for the answer that is under way. */
    refresh(): Promise<void> {
        return this.#reading.join();
    }

    /** Reads the lists as a change has left them: an answer that is under way may be of before it, and does not count any more. */
    refreshAfterChange(): Promise<void> {
        return this.#reading.again();
    }

    /** Shows the tenants of one namespace more. */
    async add(namespace: string): Promise<void> {
        if (this.namespaces === undefined || this.namespaces.includes(namespace)) return;
        await this.#show([...this.namespaces, namespace].sort());
    }

    async remove(namespace: string): Promise<void> {
        if (this.namespaces === undefined) return;
        await this.#show(this.namespaces.filter((other) => other !== namespace));
    }

    /** Asks whether the user may change cells. The API server decides in any case. */
    async readCellRights(): Promise<void> {
        this.mayPatchCells = await this.kubernetes.may("patch").catch(() => undefined);
        this.changed();
    }

    async #show(namespaces: string[]): Promise<void> {
        this.namespaces = namespaces;
        remember(namespaces);
        this.changed();
        await this.refreshAfterChange();
    }

    /** Ends the session with its token. An answer to one that was replaced meanwhile says nothing of it. */
    #heed(kubernetes: Kubernetes): void {
        kubernetes.onEnded = () => {
            if (this.kubernetes !== kubernetes) return;
            this.hasEnded = true;
            this.changed();
        };
    }

    async #read(isNewest: () => boolean): Promise<void> {
        const [tenants, cells] = await Promise.allSettled([
            this.#tenants(),
            this.kubernetes.list<Cell>(paths.cells()),
        ]);
        if (!isNewest()) return;
        if (tenants.status === "fulfilled") {
            this.tenants = { value: tenants.value.found };
            this.refused = tenants.value.refused;
            this.asOfMs = Date.now();
        } else this.tenants = taken(this.tenants, tenants);
        this.cells = taken(this.cells, cells);
        this.changed();
    }

    async #tenants(): Promise<{ found: Tenant[]; refused: Map<string, Refusal> }> {
        const name = ({ metadata }: Tenant) => `${metadata.namespace}/${metadata.name}`;
        const byName = (one: Tenant, other: Tenant) => name(one).localeCompare(name(other));
        const refused = new Map<string, Refusal>();
        if (this.namespaces === undefined) {
            const found = await this.kubernetes.list<Tenant>(paths.tenants());
            return { found: found.sort(byName), refused };
        }
        const namespaces = this.namespaces;
        const answers = await Promise.allSettled(
            namespaces.map((namespace) => this.kubernetes.list<Tenant>(paths.tenants(namespace))),
        );
        const found: Tenant[] = [];
        for (const [at, answer] of answers.entries()) {
            if (answer.status === "fulfilled") found.push(...answer.value);
            else if (answer.reason instanceof Refusal && answer.reason.isForbidden)
                refused.set(namespaces[at]!, answer.reason);
            // One that is not answered would look like one without tenants.
            else throw answer.reason;
        }
        return { found: found.sort(byName), refused };
    }
}

/** Returns a part after an answer: what was known stays when it is only not reached, and goes when it is refused. */
export function taken<T>(before: Part<T>, answer: PromiseSettledResult<T>): Part<T> {
    if (answer.status === "fulfilled") return { value: answer.value };
    const isRefused = answer.reason instanceof Refusal;
    return {
        error: answer.reason,
        ...(!isRefused && before.value !== undefined && { value: before.value }),
    };
}

/** The namespaces that the user named last in this browser. They are no secret. */
export function remembered(): string[] {
    try {
        const kept: unknown = JSON.parse(localStorage.getItem(KEY) ?? "[]");
        return Array.isArray(kept) ? kept.filter((name): name is string => typeof name === "string") : [];
    } catch {
        return [];
    }
}

function remember(namespaces: readonly string[]): void {
    localStorage.setItem(KEY, JSON.stringify(namespaces));
}

/** Returns the token in what was pasted: it often ends in a line break. */
export function tokenOf(text: string): string {
    return text.replace(/\s+/g, "").replace(/^Bearer/, "");
}

/** Returns the names in a text, or nothing when one of them is none. */
export function namespacesOf(text: string): string[] | undefined {
    const names = text.split(/[\s,]+/).filter((name) => name !== "");
    return names.every((name) => NAMESPACE_NAME.test(name)) ? names : undefined;
}

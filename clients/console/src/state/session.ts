// A user who has signed in: who that is, and what of the installation they see. Lists are followed while the page is looked at, and read again
// and again where they are not.
import { Reading } from "../../../app/src/shared/reading";
import { Source } from "../../../app/src/shared/source";
import { Kubernetes, paths, Refusal } from "../api";
import { KeptList, type Listed } from "../kept";
import { NAMESPACE_NAME } from "../names";
import type { Cell, Metadata, Tenant } from "../resources";
import { Live, type Owner } from "./live";

/** A list is a few kilobytes for each tenant. */
const REFRESH_MS = 10_000;
/** Of lists that the user may not read. */
const FORBIDDEN_MS = 60_000;
const KEY = "posthouse.console.namespaces";
/** Of a ServiceAccount: its namespace is a good guess where its tenants are. */
const ACCOUNT = /^system:serviceaccount:([a-z0-9-]+):/;

/** What is read of Kubernetes: not yet, there, or refused. What was there stays beside an error that came later. */
export type Part<T> = { value?: T; error?: unknown };

/** The token is of another user than the one who is signed in. */
export class OtherUser extends Error {}

export class Session extends Source implements Owner {
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
    /** What tells of changes, also to the views of this session. */
    readonly live = new Live(() => this.kubernetes);
    #tenantLists: readonly KeptList<Tenant>[];
    readonly #cellList = new KeptList<Cell>({ resource: "messengercells" });
    #stop: (() => void) | undefined;
    readonly #reading = new Reading((isNewest) => this.#read(isNewest));

    private constructor(
        /** With the token that is in use. */
        public kubernetes: Kubernetes,
        readonly username: string,
        namespaces: string[] | undefined,
    ) {
        super();
        this.namespaces = namespaces;
        this.#tenantLists = listsOf(namespaces, []);
        this.#heed(kubernetes);
    }

    get lists(): readonly KeptList[] {
        return [...this.#tenantLists, this.#cellList];
    }

    /** Whether changes of all tenants that are shown come by themselves. */
    get isFollowed(): boolean {
        return this.#tenantLists.length > 0 && this.#tenantLists.every((list) => this.live.has(list));
    }

    /** Returns the list that has the tenants of a namespace, while it is followed. */
    followedIn(namespace: string): KeptList<Tenant> | undefined {
        return this.#tenantLists.find(
            (list) => [undefined, namespace].includes(list.wanted.namespace) && this.live.has(list),
        );
    }

    /** Shows what has changed in the lists. */
    seen(): void {
        if (this.#tenantLists.some(({ version }) => version !== undefined))
            this.tenants = { value: this.#inOrder() };
        if (this.#cellList.version !== undefined) this.cells = { value: this.#cellList.items };
        this.changed();
    }

    readAgain(): void {
        if (!this.hasEnded) void this.#reading.again();
    }

    /** Signs in, and finds out what the user may list. Rejects when Kubernetes does not take the token, or does not answer. */
    static async open(token: string, named: readonly string[]): Promise<Session> {
        const kubernetes = new Kubernetes(token);
        const username = await kubernetes.username();
        const [, own] = ACCOUNT.exec(username) ?? [];
        const namespaces = [...new Set([...named, ...(own === undefined ? [] : [own])])].sort();
        let seesAll = true;
        try {
            await kubernetes.list(paths.tenants());
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
        if (this.#stop && document.visibilityState === "visible") this.live.start();
        await this.#reading.again();
    }

    /** Follows the lists while the page is looked at, and reads again and again what is not followed, until the returned function is called. */
    start(): () => void {
        const look = () => {
            const isLookedAt = document.visibilityState === "visible" && !this.hasEnded;
            if (!isLookedAt) {
                this.live.stop();
                return;
            }
            this.live.start();
            if (this.#isDue()) void this.refresh();
        };
        const leave = this.live.add(this);
        const timer = setInterval(look, REFRESH_MS);
        document.addEventListener("visibilitychange", look);
        if (document.visibilityState === "visible") this.live.start();
        const stop = () => {
            if (this.#stop === stop) this.#stop = undefined;
            leave();
            this.live.stop();
            clearInterval(timer);
            document.removeEventListener("visibilitychange", look);
        };
        this.#stop = stop;
        return stop;
    }

    /** Whether a list is to be read: one that is not followed, or failed. What the user may not read is asked for more rarely. */
    #isDue(): boolean {
        const areCellsForbidden = this.cells.error instanceof Refusal && this.cells.error.isForbidden;
        if (this.tenants.error !== undefined) return true;
        if (this.cells.error !== undefined && !areCellsForbidden) return true;
        const isForbidden = (list: KeptList) =>
            list === this.#cellList ? areCellsForbidden : this.refused.has(list.wanted.namespace ?? "");
        const left = this.lists.filter((list) => !this.live.has(list));
        if (left.some((list) => !isForbidden(list))) return true;
        return left.length > 0 && Date.now() - this.asOfMs >= FORBIDDEN_MS;
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
        this.#tenantLists = listsOf(namespaces, this.#tenantLists);
        remember(namespaces);
        this.changed();
        await this.refreshAfterChange();
    }

    /** Ends the session with its token. An answer to one that was replaced meanwhile says nothing of it. */
    #heed(kubernetes: Kubernetes): void {
        kubernetes.onEnded = () => {
            if (this.kubernetes !== kubernetes) return;
            this.hasEnded = true;
            this.live.stop();
            this.changed();
        };
    }

    async #read(isNewest: () => boolean): Promise<void> {
        const lists = this.#tenantLists;
        const [tenants, cells] = await Promise.allSettled([
            this.#readTenants(lists),
            this.kubernetes.list<Cell>(paths.cells()),
        ]);
        if (!isNewest()) return;
        if (tenants.status === "fulfilled") {
            const { found, refused } = tenants.value;
            for (const list of lists) {
                const answer = found.get(list);
                if (answer) list.take(answer);
                else list.clear();
            }
            this.tenants = { value: this.#inOrder() };
            this.refused = refused;
            this.asOfMs = Date.now();
        } else {
            if (tenants.reason instanceof Refusal) for (const list of lists) list.clear();
            this.tenants = taken(this.tenants, tenants);
        }
        this.cells = kept(this.cells, this.#cellList, cells);
        this.changed();
        this.live.look();
    }

    async #readTenants(lists: readonly KeptList<Tenant>[]): Promise<TenantAnswers> {
        const { kubernetes } = this;
        const read = ({ wanted }: KeptList<Tenant>) => kubernetes.list<Tenant>(paths.tenants(wanted.namespace));
        const answers = await Promise.allSettled(lists.map(read));
        const [found, refused] = [new Map<KeptList<Tenant>, Listed<Tenant>>(), new Map<string, Refusal>()];
        for (const [at, answer] of answers.entries()) {
            const list = lists[at]!;
            const { namespace } = list.wanted;
            if (answer.status === "fulfilled") found.set(list, answer.value);
            else if (namespace !== undefined && answer.reason instanceof Refusal && answer.reason.isForbidden)
                refused.set(namespace, answer.reason);
            // One that is not answered would look like one without tenants.
            else throw answer.reason;
        }
        return { found, refused };
    }

    /** Returns the tenants of all lists in the order of their names. */
    #inOrder(): Tenant[] {
        const name = ({ metadata }: Tenant) => `${metadata.namespace}/${metadata.name}`;
        const byName = (one: Tenant, other: Tenant) => name(one).localeCompare(name(other));
        return this.#tenantLists.flatMap(({ items }) => items).sort(byName);
    }
}

type TenantAnswers = {
    found: ReadonlyMap<KeptList<Tenant>, Listed<Tenant>>;
    refused: ReadonlyMap<string, Refusal>;
};

/** Returns the lists of these namespaces, or of all; those that there are already go on. */
function listsOf(
    namespaces: readonly string[] | undefined,
    known: readonly KeptList<Tenant>[],
): KeptList<Tenant>[] {
    const resource = "messengertenants";
    if (namespaces === undefined) return [new KeptList<Tenant>({ resource })];
    const listOf = (namespace: string) =>
        known.find(({ wanted }) => wanted.namespace === namespace) ??
        new KeptList<Tenant>({ resource, namespace });
    return namespaces.map(listOf);
}

/** Returns a part after an answer to what is kept in a list. */
export function kept<T extends { metadata: Metadata }>(
    before: Part<T[]>,
    list: KeptList<T>,
    answer: PromiseSettledResult<Listed<T>>,
): Part<T[]> {
    if (answer.status === "rejected") {
        if (answer.reason instanceof Refusal) list.clear();
        return taken(before, answer);
    }
    list.take(answer.value);
    return { value: list.items };
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

/** Returns an answer with the items of a list that is not kept. */
export function itemsOf<T>(answer: PromiseSettledResult<Listed<T>>): PromiseSettledResult<T[]> {
    return answer.status === "rejected" ? answer : { status: "fulfilled", value: answer.value.items };
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

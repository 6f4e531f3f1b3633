// A list of the messenger that is read page by page.
import type { Identity } from "@posthouse/client";
import { Source } from "../../shared/source";

/** What narrows a list; what is absent or empty does not. */
export type Filter = Record<string, string | number | undefined>;
export type Page<T> = { items: T[]; next_cursor?: string | null };

/** Returns the address of a page. */
export function pagePath(path: string, filter: Filter, cursor?: string | null): string {
    const query = new URLSearchParams(
        Object.entries({ ...filter, cursor: cursor ?? undefined }).flatMap(([name, value]) =>
            value === undefined || value === "" ? [] : [[name, String(value)]],
        ),
    );
    return query.size === 0 ? path : `${path}?${query}`;
}

export class Listing<T> extends Source {
    items: readonly T[] = [];
    isLoading = false;
    /** Why the last page did not come. What came before stays. */
    error: unknown;
    filter: Filter = {};
    /** Whether a page was read for this filter: an empty list is empty then. */
    isRead = false;
    readonly #identity: Pick<Identity, "call">;
    readonly #path: string;
    readonly #idOf: (item: T) => string;
    #next: string | null | undefined;
    /** Counts what was asked for: an answer to an earlier filter comes too late. */
    #turn = 0;

    constructor(identity: Pick<Identity, "call">, path: string, idOf: (item: T) => string) {
        super();
        this.#identity = identity;
        this.#path = path;
        this.#idOf = idOf;
    }

    get hasMore(): boolean {
        return this.isRead && this.#next != null;
    }

    /** Reads the first page. What is shown of another filter goes at once, and of the same one when the answer is there. */
    open(filter: Filter = this.filter): Promise<void> {
        if (pagePath("", filter) !== pagePath("", this.filter)) {
            this.items = [];
            this.isRead = false;
        }
        this.filter = filter;
        return this.#read(undefined);
    }

    /** Reads the next page. */
    async more(): Promise<void> {
        if (this.hasMore && !this.isLoading) await this.#read(this.#next);
    }

    /** Takes what has become of an item; one that the filter does not want any more stays where it is until the list is read again. */
    put(item: T): void {
        const id = this.#idOf(item);
        this.items = this.items.map((known) => (this.#idOf(known) === id ? item : known));
        this.changed();
    }

    /** Takes a new item, as the first. */
    add(item: T): void {
        this.items = [item, ...this.#without([item])];
        this.changed();
    }

    drop(id: string): void {
        this.items = this.items.filter((known) => this.#idOf(known) !== id);
        this.changed();
    }

    #without(items: readonly T[]): readonly T[] {
        const ids = new Set(items.map(this.#idOf));
        return this.items.filter((known) => !ids.has(this.#idOf(known)));
    }

    async #read(cursor: string | null | undefined): Promise<void> {
        const turn = ++this.#turn;
        this.isLoading = true;
        this.error = undefined;
        this.changed();
        try {
            const page: Page<T> = await this.#identity.call("GET", pagePath(this.#path, this.filter, cursor));
            if (turn !== this.#turn) return;
            this.items = cursor == null ? page.items : [...this.#without(page.items), ...page.items];
            this.#next = page.next_cursor;
            this.isRead = true;
        } catch (error) {
            if (turn !== this.#turn) return;
            this.error = error;
        }
        this.isLoading = false;
        this.changed();
    }
}

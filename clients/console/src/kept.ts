// A list of Kubernetes as the page keeps it: read whole, and then changed by what a watch says. No I/O.
import type { Metadata } from "./resources";

/** What is listed and watched. */
export type Wanted = {
    resource: "messengertenants" | "messengercells" | "deployments" | "events";
    namespace?: string;
    fieldSelector?: string;
    labelSelector?: string;
};

/** A list as it was read, and the version of all of it. */
export type Listed<T> = { items: T[]; version: string };

/** What a watch says of one object, or where to go on (BOOKMARK). */
export type Change = { type: string; object: unknown };

type Named = { metadata: Pick<Metadata, "name" | "namespace" | "resourceVersion"> };

export class KeptList<T extends Named = Named> {
    readonly #items = new Map<string, T>();
    #version: string | undefined;

    constructor(readonly wanted: Wanted) {}

    /** The version from which a watch goes on without a gap. Absent until it is read. */
    get version(): string | undefined {
        return this.#version;
    }

    get items(): T[] {
        return [...this.#items.values()];
    }

    /** Takes what was read, unless what is kept is newer: events may come while an answer is under way, and do not come again. */
    take({ items, version }: Listed<T>): void {
        if (this.#version !== undefined && isOlder(version, this.#version)) return;
        this.#items.clear();
        for (const item of items) this.#items.set(keyOf(item), item);
        this.#version = version;
    }

    /** Takes an event, unless a list that was read after it had it already. */
    see({ type, object }: Change): void {
        const item = object as T;
        const { resourceVersion } = item.metadata;
        if (this.#version === undefined || !isOlder(this.#version, resourceVersion)) return;
        this.#version = resourceVersion;
        if (type === "DELETED") this.#items.delete(keyOf(item));
        else if (type !== "BOOKMARK") this.#items.set(keyOf(item), item);
    }

    /** Notes that no watch goes on from here: it has to be read again. */
    forget(): void {
        this.#version = undefined;
    }

    /** Removes what the user may not see any more. */
    clear(): void {
        this.forget();
        this.#items.clear();
    }
}

function keyOf({ metadata: { namespace = "", name } }: Named): string {
    return `${namespace}/${name}`;
}

/** Reports whether a version of Kubernetes is before another one. They are numbers of any length. */
export function isOlder(one: string, other: string): boolean {
    return one.length === other.length ? one < other : one.length < other.length;
}

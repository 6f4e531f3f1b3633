// Where the user is in the page: the fragment of its address, so that links and the back button lead there. A server never sees it.
import { useSyncExternalStore } from "react";
import { OBJECT_NAME } from "./names";

export type Place =
    | { at: "tenants" }
    | { at: "new" }
    | { at: "cells" }
    | { at: "usage" }
    | { at: "tenant"; namespace: string; name: string };

export function href(place: Place): string {
    switch (place.at) {
        case "tenants":
            return "#/";
        case "usage":
            return "#/usage";
        case "new":
            return "#/new";
        case "cells":
            return "#/cells";
        case "tenant":
            return `#/tenant/${place.namespace}/${place.name}`;
    }
}

/** Returns the place of a fragment; what is none is the list of tenants. */
export function placeOf(fragment: string): Place {
    if (fragment === "#/cells") return { at: "cells" };
    if (fragment === "#/usage") return { at: "usage" };
    if (fragment === "#/new") return { at: "new" };
    const [, namespace, name] = new RegExp(`^#/tenant/(${OBJECT_NAME})/(${OBJECT_NAME})$`).exec(fragment) ?? [];
    return namespace !== undefined && name !== undefined
        ? { at: "tenant", namespace, name }
        : { at: "tenants" };
}

export function go(place: Place): void {
    location.hash = href(place);
}

export function usePlace(): Place {
    const fragment = useSyncExternalStore(subscribe, () => location.hash);
    return placeOf(fragment);
}

function subscribe(listener: () => void): () => void {
    const types = ["hashchange", "popstate"];
    for (const type of types) window.addEventListener(type, listener);
    return () => types.forEach((type) => window.removeEventListener(type, listener));
}

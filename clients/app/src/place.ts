// Where the user is in the page: the fragment of its address, so that links, the back button and a reload lead there. A server never sees it.
import { useSyncExternalStore } from "react";

export const PANELS = [
    ...(["settings", "notifications", "new", "search", "members"] as const),
    ...(["about", "invites", "pins", "scheduled", "contacts", "user"] as const),
] as const;
export type Panel = (typeof PANELS)[number];

/** Screens of the console, which moderators alone see. */
export const ADMIN_SCREENS = [
    "queue",
    "appeals",
    "users",
    "roles",
    "invitations",
    "rules",
    "audit",
    "usage",
    "exports",
] as const;
export type AdminScreen = (typeof ADMIN_SCREENS)[number];

export type Place = {
    chat?: string;
    /** The screen of the console, which stands where a chat would be. */
    admin?: AdminScreen;
    /** What that screen shows one of: the id of a user or of a rule set. */
    of?: string;
    /** The message to go to. */
    at?: number;
    /** The message whose replies are shown. */
    thread?: number;
    panel?: Panel;
    /** The user whom the panel is about. */
    user?: string;
    /** The code of an invite link that was followed. */
    invite?: string;
};

/** Returns the address of a place. */
export function href({ chat, admin, invite, ...rest }: Place): string {
    if (invite !== undefined) return `#/join/${invite}`;
    const query = new URLSearchParams(
        Object.entries(rest).flatMap(([name, value]) => (value === undefined ? [] : [[name, String(value)]])),
    );
    const path = admin !== undefined ? `#/admin/${admin}` : chat === undefined ? "#/" : `#/chat/${chat}`;
    return query.size === 0 ? path : `${path}?${query}`;
}

/** Returns the place of a fragment; what is not known of it is left out. */
export function placeOf(fragment: string): Place {
    const [, invite] = /^#\/join\/([\w-]{1,64})$/.exec(fragment) ?? [];
    if (invite !== undefined) return { invite };
    const [, chat, screen, search] =
        /^#\/(?:chat\/([0-9a-f-]{36})|admin(?:\/([a-z]*))?)?(?:\?(.*))?$/.exec(fragment) ?? [];
    const query = new URLSearchParams(search ?? "");
    const number = (name: string) => {
        const value = Number(query.get(name) ?? Number.NaN);
        return Number.isSafeInteger(value) && value > 0 ? value : undefined;
    };
    const [at, thread, panel] = [
        number("at"),
        number("thread"),
        PANELS.find((known) => known === query.get("panel")),
    ];
    // An address of before, or of a later release, leads to the first screen.
    const admin = fragment.startsWith("#/admin")
        ? (ADMIN_SCREENS.find((known) => known === screen) ?? ADMIN_SCREENS[0])
        : undefined;
    const [of] = /^[0-9a-f-]{36}$/.exec(query.get("of") ?? "") ?? [];
    const user = /^[0-9a-f-]{36}$/.exec(query.get("user") ?? "")?.[0];
    return {
        ...(chat !== undefined && { chat }),
        ...(admin !== undefined && { admin }),
        ...(of !== undefined && { of }),
        ...(at !== undefined && { at }),
        ...(thread !== undefined && { thread }),
        ...(panel !== undefined && { panel }),
        ...(user !== undefined && { user }),
    };
}

const MOVED = "posthouse-moved";

/** Goes to a place; `isSame` when it is the same one in other words, so that the back button does not stop there. */
export function go(place: Place, isSame = false): void {
    if (isSame) history.replaceState(null, "", href(place));
    else history.pushState(null, "", href(place));
    window.dispatchEvent(new Event(MOVED));
}

/** Returns where the user is. */
export function usePlace(): Place {
    const fragment = useSyncExternalStore(subscribe, () => location.hash);
    return placeOf(fragment);
}

function subscribe(listener: () => void): () => void {
    const types = ["hashchange", "popstate", MOVED];
    for (const type of types) window.addEventListener(type, listener);
    return () => types.forEach((type) => window.removeEventListener(type, listener));
}

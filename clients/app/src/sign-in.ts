// How this tab came to tokens, which it has in memory alone: a reload asks the realm for others, without a page where the browser is signed in there.
import { Messenger, Realm, type Begun, type Identity } from "@posthouse/client";
import type { Config } from "./config";

/** Of this tab, from the way to the realm until the way back. */
const BEGUN_KEY = "posthouse.begun";
/** That this browser was signed in, and a silent attempt is worth its way. */
const KNOWN_KEY = "posthouse.signed-in";

/** What links in mails lead to. */
const LINKS = [
    "password_reset",
    "email_confirmation",
    "notifications_confirmation",
    "notifications_end",
] as const;

export type MailLink = { kind: (typeof LINKS)[number]; token: string };

export class SignIn {
    readonly messenger = new Messenger(location.origin);
    readonly #realm: Realm | undefined;

    constructor(readonly config: Config) {
        this.#realm = config.realm === undefined ? undefined : new Realm(config.realm);
    }

    /** Whether users sign in on the page of the realm. */
    get isAtRealm(): boolean {
        return this.#realm !== undefined;
    }

    /**
     * Returns the user of a sign-in that ends with this load of the page, and nothing when there is none: then the user is asked, unless the
     * browser is on its way to the realm. Throws a `CallError`.
     */
    async resume(): Promise<Identity | "away" | undefined> {
        if (!this.#realm) return undefined;
        const answer = new URLSearchParams(location.search);
        if (answer.has("state")) {
            const kept = sessionStorage.getItem(BEGUN_KEY);
            sessionStorage.removeItem(BEGUN_KEY);
            const { begun, fragment } = kept ? (JSON.parse(kept) as { begun: Begun; fragment: string }) : {};
            // A code stays in no address, and in no history.
            history.replaceState(null, "", `/${fragment ?? ""}`);
            const tokens = await this.#realm.finish(begun, answer);
            if (tokens) {
                localStorage.setItem(KNOWN_KEY, "yes");
                return this.messenger.identity(tokens, this.#realm);
            }
            localStorage.removeItem(KNOWN_KEY);
            return undefined;
        }
        if (localStorage.getItem(KNOWN_KEY) === null || mailLink()) return undefined;
        await this.goToRealm({ isSilent: true });
        return "away";
    }

    /** Takes the browser to the realm, which brings it back to where it is. */
    async goToRealm(options: {
        isSilent?: boolean;
        provider?: string;
        username?: string;
        language?: string;
    }): Promise<void> {
        if (!this.#realm) throw new Error("this messenger has no page for a sign-in");
        const { url, begun } = await this.#realm.begin(`${location.origin}/`, options);
        const fragment = location.hash.startsWith("#/") ? location.hash : "";
        sessionStorage.setItem(BEGUN_KEY, JSON.stringify({ begun, fragment }));
        location.assign(url);
    }

    /** The user has signed out: the next load asks. */
    static forget(): void {
        localStorage.removeItem(KNOWN_KEY);
    }
}

/** Returns what a link in a mail wants, by the fragment of the address. */
export function mailLink(): MailLink | undefined {
    const [, name, token] = /^#(\w+)=(.+)$/.exec(location.hash) ?? [];
    const kind = LINKS.find((known) => known === name);
    return kind && token !== undefined ? { kind, token } : undefined;
}

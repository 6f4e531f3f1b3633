// How this tab came to tokens, which it has in memory alone: a reload asks the realm for others, without a page where the browser is signed in there.
import { CallError, Identity, Messenger, Realm, type Begun, type Issuer } from "@posthouse/client";
import { loadConfig, type Config } from "./config";

/** Of this tab, from the way to the realm until the way back. */
const BEGUN_KEY = "posthouse.begun";
/** Who was signed in in this browser: a silent attempt is worth its way. */
const KNOWN_KEY = "posthouse.signed-in";

const ID = /^[0-9a-f-]{36}$/;
const LOOK_AGAIN_MS = 5_000;
const REALM_TIMEOUT_MS = 5_000;
/** Who has pressed a key within this time writes. */
const WRITING_MS = 3_000;

/** Of a user who is not signed in until the messenger answers. */
const NO_TOKENS = {
    ...{ access_token: "", expires_in_seconds: 0 },
    ...{ refresh_token: "", refresh_expires_in_seconds: 0 },
};

/** Gives no tokens, as a realm that does not answer. */
class Away implements Issuer {
    refresh(): Promise<never> {
        return Promise.reject(new CallError("the messenger does not respond", 0));
    }

    end(): Promise<never> {
        return this.refresh();
    }
}

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
    /** Whether the messenger or its realm did not answer when the page was opened: the user sees what this browser keeps, and has no tokens. */
    isAway = false;
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
                const identity = await this.messenger.identity(tokens, this.#realm);
                localStorage.setItem(KNOWN_KEY, identity.user);
                return identity;
            }
            localStorage.removeItem(KNOWN_KEY);
            return undefined;
        }
        const known = localStorage.getItem(KNOWN_KEY);
        if (known === null || mailLink()) return undefined;
        if (ID.test(known) && (this.config.isKept || !(await this.#isRealmThere()))) {
            this.isAway = true;
            return new Identity(this.messenger, known, NO_TOKENS, new Away());
        }
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

    /** Waits until the messenger answers and the user does not write, and signs in silently. Until `signal` says that it is not wanted any more. */
    async comeBack(signal: AbortSignal): Promise<void> {
        let wroteAt = -Infinity;
        const note = () => (wroteAt = performance.now());
        window.addEventListener("input", note, { signal });
        while (!signal.aborted) {
            await pause(LOOK_AGAIN_MS, signal);
            if (signal.aborted || performance.now() - wroteAt < WRITING_MS) continue;
            const config = await loadConfig().catch(() => undefined);
            if (!config || config.isKept || !(await this.#isRealmThere()) || signal.aborted) continue;
            return this.goToRealm({ isSilent: true });
        }
    }

    /** Whether the realm answers at all: a browser that goes there otherwise shows a page of its own, and does not come back. */
    async #isRealmThere(): Promise<boolean> {
        const url = `${this.config.realm}/.well-known/openid-configuration`;
        const asked = { mode: "no-cors", signal: AbortSignal.timeout(REALM_TIMEOUT_MS) } as const;
        return fetch(url, asked).then(
            () => true,
            () => false,
        );
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

/** Waits, and no longer than until the browser says that there is a network. */
function pause(ms: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
        const timer = setTimeout(resolve, ms);
        const end = () => {
            clearTimeout(timer);
            resolve();
        };
        window.addEventListener("online", end, { once: true, signal });
        signal.addEventListener("abort", end, { once: true });
    });
}

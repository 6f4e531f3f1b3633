// How this tab came to tokens, which it has in memory alone: a reload asks the realm for others, without a page where the browser is signed in there.
import { CallError, Identity, Messenger, Realm, type Begun, type Issuer } from "@posthouse/client";
import { loadConfig, type Config } from "./config";
import { forgetUser, KNOWN_KEY } from "./forget";

/** Of this tab, from the way to the realm until the way back. */
const BEGUN_KEY = "posthouse.begun";
/** Who has signed out in this browser while the messenger did not answer: the session is to be ended there, too. */
const OWED_KEY = "posthouse.sign-out";
/** How a realm says that it has no session for this browser, and not that it has a fault (OpenID Connect Core, 3.1.2.6). */
const NO_SESSION = ["login_required", "interaction_required", "consent_required", "account_selection_required"];

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
    #hasTriedToEnd = false;

    constructor(readonly config: Config) {
        this.#realm = config.realm === undefined ? undefined : new Realm(config.realm);
    }

    /** Whether users sign in on the page of the realm. */
    get isAtRealm(): boolean {
        return this.#realm !== undefined;
    }

    /** Whether a session that its user has ended here goes on at the messenger, and `comeBack` will end it. */
    get owesSignOut(): boolean {
        return this.isAtRealm && !this.#hasTriedToEnd && localStorage.getItem(OWED_KEY) !== null;
    }

    /** Notes that the messenger did not answer when `user` signed out. Without it, the next sign-in at the realm would be of that user. */
    oweSignOut(user: string): void {
        if (this.isAtRealm) localStorage.setItem(OWED_KEY, user);
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
            history.replaceState(null, "", `/${fragment ?? location.hash}`);
            // Anyone can make a link that looks like an answer: one to what was not asked says nothing of the user.
            if (begun && begun.state === answer.get("state")) return this.#finish(this.#realm, begun, answer);
        }
        if (mailLink()) return undefined;
        const known = localStorage.getItem(KNOWN_KEY);
        if (known === null) {
            if (!this.owesSignOut || this.config.isKept || !(await this.#isRealmThere())) return undefined;
            await this.goToRealm({ isSilent: true });
            return "away";
        }
        if (ID.test(known) && (this.config.isKept || !(await this.#isRealmThere()))) {
            this.isAway = true;
            return new Identity(this.messenger, known, NO_TOKENS, new Away());
        }
        await this.goToRealm({ isSilent: true });
        return "away";
    }

    /** Takes what the realm answered. */
    async #finish(realm: Realm, begun: Begun, answer: URLSearchParams): Promise<Identity | undefined> {
        const tokens = await realm.finish(begun, answer);
        if (!tokens) {
            // One that has a fault is asked again by the next load.
            this.#hasTriedToEnd = true;
            if (!NO_SESSION.includes(answer.get("error") ?? "")) return undefined;
            localStorage.removeItem(OWED_KEY);
            const known = localStorage.getItem(KNOWN_KEY);
            // What was not sent stays: the session may be too old, and its user come back.
            if (known !== null && ID.test(known)) await forgetUser(known, "all-but-unsent");
            localStorage.removeItem(KNOWN_KEY);
            return undefined;
        }
        const identity = await this.messenger.identity(tokens, realm);
        const owed = localStorage.getItem(OWED_KEY);
        if (owed === identity.user) return this.#endOwed(identity);
        // Who signs in at a realm ends the session that this browser had there.
        localStorage.removeItem(OWED_KEY);
        localStorage.setItem(KNOWN_KEY, identity.user);
        return identity;
    }

    /** Ends a session whose user has signed out, and returns nobody. */
    async #endOwed(identity: Identity): Promise<undefined> {
        this.#hasTriedToEnd = true;
        try {
            await identity.signOut();
        } catch (error) {
            // The next load tries it once more.
            if (!(error instanceof CallError) || error.isTemporary) return;
        }
        localStorage.removeItem(OWED_KEY);
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

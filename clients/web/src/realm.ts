// Sign-in on the page of the tenant's realm: OpenID Connect, authorization code with PKCE (RFC 7636), as a public client.
import type { Page_AuthSession, Tokens } from "./generated/auth.js";
import { CallError, type Identity, type Issuer } from "./messenger.js";

/** Random bytes of a state and of a verifier. */
const RANDOM_BYTES = 32;
const EXCHANGE_TIMEOUT_MS = 10_000;
/** The public client of every tenant's realm. */
const CLIENT = "messenger";

/** What a page keeps from the beginning of a sign-in to its end, in this tab alone: it is worth nothing without the code, and the code nothing without it. */
export type Begun = { state: string; verifier: string; redirect: string };

/** The answer of a token endpoint (RFC 6749, 5.1). */
type TokenResponse = {
    access_token: string;
    expires_in: number;
    refresh_token: string;
    refresh_expires_in: number;
};

/** The realm of one tenant. */
export class Realm implements Issuer {
    readonly #issuer: string;

    /** Takes the issuer of the tenant's tokens. */
    constructor(issuer: string) {
        this.#issuer = issuer.replace(/\/$/, "");
    }

    /**
     * Begins a sign-in: returns where the browser goes, and what the page keeps until it is back at `redirect`. A silent one shows nothing: it
     * comes back with `error=login_required` unless the browser is signed in at the realm. `provider` is the alias of an external identity
     * provider to go on to, `username` what the page is filled with, `language` that of the page.
     */
    async begin(
        redirect: string,
        options: { isSilent?: boolean; provider?: string; username?: string; language?: string } = {},
    ): Promise<{ url: string; begun: Begun }> {
        const begun: Begun = { state: word(), verifier: word(), redirect };
        const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(begun.verifier));
        const query = new URLSearchParams({
            ...{ response_type: "code", client_id: CLIENT, redirect_uri: redirect, scope: "openid" },
            ...{ state: begun.state, code_challenge_method: "S256" },
            code_challenge: base64Url(new Uint8Array(digest)),
        });
        if (options.isSilent) query.set("prompt", "none");
        if (options.provider !== undefined) query.set("kc_idp_hint", options.provider);
        if (options.username !== undefined) query.set("login_hint", options.username);
        if (options.language !== undefined) query.set("ui_locales", options.language);
        return { url: `${this.#issuer}/protocol/openid-connect/auth?${query}`, begun };
    }

    /**
     * Ends a sign-in with the query that the browser came back with. Returns nothing for one that this page has not begun, or that the realm
     * refused, such as a silent one; throws a `CallError` when the code gives no tokens.
     */
    async finish(begun: Begun | undefined, answer: URLSearchParams): Promise<Tokens | undefined> {
        const code = answer.get("code");
        if (!begun || code === null || answer.get("state") !== begun.state) return undefined;
        const { verifier, redirect } = begun;
        const grant = {
            grant_type: "authorization_code",
            code,
            code_verifier: verifier,
            redirect_uri: redirect,
        };
        return this.#tokens(grant, EXCHANGE_TIMEOUT_MS);
    }

    refresh(refreshToken: string, timeoutMs: number): Promise<Tokens> {
        return this.#tokens({ grant_type: "refresh_token", refresh_token: refreshToken }, timeoutMs);
    }

    /** Ends it by the auth service, from which the gateways learn of it: a logout at the realm itself leaves connections open. */
    async end(identity: Identity): Promise<void> {
        const sessions: Page_AuthSession = await identity.call("GET", "/api/auth/sessions");
        const current = sessions.items.find((session) => session.is_current);
        if (current) await identity.call("DELETE", `/api/auth/sessions/${current.session_id}`);
    }

    async #tokens(grant: Record<string, string>, timeoutMs: number): Promise<Tokens> {
        let response: Response;
        let body: Partial<TokenResponse> & { error?: string };
        try {
            response = await fetch(`${this.#issuer}/protocol/openid-connect/token`, {
                method: "POST",
                body: new URLSearchParams({ client_id: CLIENT, ...grant }),
                credentials: "omit",
                signal: AbortSignal.timeout(timeoutMs),
            });
            body = await response.json();
        } catch (cause) {
            throw new CallError("the realm does not respond", 0, undefined, { cause });
        }
        if (response.ok && body.access_token !== undefined && body.refresh_token !== undefined) {
            return {
                access_token: body.access_token,
                expires_in_seconds: body.expires_in ?? 0,
                refresh_token: body.refresh_token,
                refresh_expires_in_seconds: body.refresh_expires_in ?? 0,
            };
        }
        // What is over is over: `invalid_grant` is 400 by RFC 6749, and 401 for every other refusal of a sign-in here.
        const status = body.error === "invalid_grant" ? 401 : response.status;
        throw new CallError(`the realm gave no tokens: ${body.error ?? `status ${response.status}`}`, status);
    }
}

function word(): string {
    return base64Url(crypto.getRandomValues(new Uint8Array(RANDOM_BYTES)));
}

function base64Url(bytes: Uint8Array): string {
    const text = btoa(String.fromCharCode(...bytes));
    return text.replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

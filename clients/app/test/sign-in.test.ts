import type { Identity } from "@posthouse/client";
import { beforeEach, expect, test, vi } from "vitest";
import { mailLink, SignIn } from "../src/sign-in";
import { Kept } from "../src/state/kept";
import { ANNA, CHAT, ME, profile } from "./stand";

const CONFIG = { name: "Acme", realm: "http://id.localhost/realms/acme", services: [] };

const requests: Array<{ url: string; body: string }> = [];
let assign: ReturnType<typeof vi.spyOn>;

beforeEach(() => {
    requests.length = 0;
    assign = vi.spyOn(location, "assign").mockImplementation(() => undefined);
    vi.stubGlobal(
        "fetch",
        vi.fn(async (url: URL | string, { body }: RequestInit = {}) => {
            requests.push({ url: String(url), body: String(body ?? "") });
            const tokens = {
                access_token: "a",
                refresh_token: "r",
                expires_in: 300,
                refresh_expires_in: 1_800,
            };
            return Response.json(String(url).includes("/token") ? tokens : profile(ME, "me", "Me"));
        }),
    );
});

/** Goes to the realm, and returns what the browser was sent there with. */
async function away(signIn: SignIn): Promise<URLSearchParams> {
    await signIn.goToRealm({});
    return new URL(String(assign.mock.calls.at(-1)![0])).searchParams;
}

test("a browser comes back to where it was, with no code in its address", async () => {
    history.replaceState(null, "", `/#/chat/${CHAT}`);
    const query = await away(new SignIn(CONFIG));
    expect(query.get("redirect_uri")).toBe(`${location.origin}/`);
    history.replaceState(null, "", `/?state=${query.get("state")}&code=c&iss=i`);
    const identity = await new SignIn(CONFIG).resume();
    expect(identity).toMatchObject({ user: ME });
    expect(location.search).toBe("");
    expect(location.hash).toBe(`#/chat/${CHAT}`);
    expect(JSON.stringify([{ ...localStorage }, { ...sessionStorage }])).not.toContain("c&");
    expect(sessionStorage.length).toBe(0);
});

test("a code that this tab did not ask for goes nowhere", async () => {
    history.replaceState(null, "", "/?state=another&code=c");
    expect(await new SignIn(CONFIG).resume()).toBeUndefined();
    expect(requests).toEqual([]);
    expect(location.search).toBe("");
});

test("a known browser asks the realm silently, once", async () => {
    const signIn = new SignIn(CONFIG);
    expect(await signIn.resume()).toBeUndefined();
    expect(assign).not.toHaveBeenCalled();
    const query = await away(signIn);
    history.replaceState(null, "", `/?state=${query.get("state")}&code=c`);
    await signIn.resume();
    expect(await new SignIn(CONFIG).resume()).toBe("away");
    const silent = new URL(String(assign.mock.calls.at(-1)![0])).searchParams;
    expect(silent.get("prompt")).toBe("none");
    // The realm has forgotten the browser: the page asks the user, and does not go there again.
    history.replaceState(null, "", `/?state=${silent.get("state")}&error=login_required`);
    expect(await new SignIn(CONFIG).resume()).toBeUndefined();
    expect(await new SignIn(CONFIG).resume()).toBeUndefined();
});

test("a link of a mail is not taken for a place, and keeps the browser here", async () => {
    localStorage.setItem("posthouse.signed-in", "yes");
    history.replaceState(null, "", "/#password_reset=abc");
    expect(mailLink()).toEqual({ kind: "password_reset", token: "abc" });
    expect(await new SignIn(CONFIG).resume()).toBeUndefined();
    expect(assign).not.toHaveBeenCalled();
});

test("every link of a mail is known, and nothing else is one", () => {
    for (const kind of [
        "password_reset",
        "email_confirmation",
        "notifications_confirmation",
        "notifications_end",
    ]) {
        history.replaceState(null, "", `/#${kind}=a.b-c_d`);
        expect(mailLink()).toEqual({ kind, token: "a.b-c_d" });
    }
    for (const hash of ["#other=abc", "#password_reset=", "#/password_reset=abc", ""]) {
        history.replaceState(null, "", `/${hash}`);
        expect(mailLink(), hash).toBeUndefined();
    }
});

test("without a messenger a known user is here without tokens, and the browser does not go to the realm", async () => {
    localStorage.setItem("posthouse.signed-in", ME);
    const signIn = new SignIn({ ...CONFIG, isKept: true });
    const identity = await signIn.resume();
    expect(identity).toMatchObject({ user: ME });
    expect(signIn.isAway).toBe(true);
    expect(assign).not.toHaveBeenCalled();
    await expect((identity as Identity).token()).rejects.toMatchObject({ status: 0, isTemporary: true });
});

test("a realm that does not answer is not gone to", async () => {
    localStorage.setItem("posthouse.signed-in", ME);
    vi.stubGlobal(
        "fetch",
        vi.fn(async () => {
            throw new TypeError("failed to fetch");
        }),
    );
    const signIn = new SignIn(CONFIG);
    expect(await signIn.resume()).toMatchObject({ user: ME });
    expect(signIn.isAway).toBe(true);
    expect(assign).not.toHaveBeenCalled();
});

test("once the messenger answers the user is signed in silently, but not while they write", async () => {
    vi.useFakeTimers();
    localStorage.setItem("posthouse.signed-in", ME);
    const signIn = new SignIn({ ...CONFIG, isKept: true });
    await signIn.resume();
    let isUp = false;
    vi.stubGlobal(
        "fetch",
        vi.fn(async () => Response.json(CONFIG, isUp ? {} : { headers: { "posthouse-kept": "yes" } })),
    );
    const over = new AbortController();
    void signIn.comeBack(over.signal);
    await vi.advanceTimersByTimeAsync(20_000);
    expect(assign).not.toHaveBeenCalled();
    isUp = true;
    window.dispatchEvent(new Event("input"));
    window.dispatchEvent(new Event("online"));
    await vi.advanceTimersByTimeAsync(1_000);
    expect(assign).not.toHaveBeenCalled();
    await vi.advanceTimersByTimeAsync(10_000);
    vi.useRealTimers();
    await vi.waitFor(() => expect(String(assign.mock.calls.at(-1)?.[0])).toContain("prompt=none"));
});

test("a link that looks like an answer of the realm signs nobody out", async () => {
    localStorage.setItem("posthouse.signed-in", ME);
    history.replaceState(null, "", "/?state=x&error=login_required");
    expect(await new SignIn(CONFIG).resume()).toBe("away");
    expect(localStorage.getItem("posthouse.signed-in")).toBe(ME);
    expect(location.search).toBe("");
});

/** Comes back from the realm with `answer`. */
async function back(answer: string): Promise<unknown> {
    const { state } = Object.fromEntries(new URL(String(assign.mock.calls.at(-1)![0])).searchParams);
    history.replaceState(null, "", `/?state=${state}&${answer}`);
    return new SignIn(CONFIG).resume();
}

test("a browser that the realm does not know any more forgets its user, but not for a fault of the realm", async () => {
    const keep = async () => {
        const kept = await Kept.open(ME);
        await kept.keepDraft(CHAT, { body: "a draft" });
        await kept.put({ chat: CHAT, key: "k", post: { kind: "text", body: "not sent" } });
        return kept;
    };
    const kept = await keep();
    localStorage.setItem("posthouse.signed-in", ME);
    await new SignIn(CONFIG).resume();
    expect(await back("error=temporarily_unavailable")).toBeUndefined();
    expect(await kept.drafts()).toHaveLength(1);
    await new SignIn(CONFIG).resume();
    expect(await back("error=login_required")).toBeUndefined();
    expect(await kept.drafts()).toEqual([]);
    expect(await kept.load()).toHaveLength(1);
    expect(localStorage.getItem("posthouse.signed-in")).toBeNull();
});

test("a sign-out that did not reach the messenger is finished by the next load, which signs no user in", async () => {
    const signIn = new SignIn(CONFIG);
    signIn.oweSignOut(ME);
    expect(signIn.owesSignOut).toBe(true);
    expect(await new SignIn({ ...CONFIG, isKept: true }).resume()).toBeUndefined();
    expect(assign).not.toHaveBeenCalled();
    expect(await new SignIn(CONFIG).resume()).toBe("away");
    const sessions = { items: [{ session_id: "s", is_current: true }] };
    const answered = fetch;
    const ended = vi.fn();
    vi.stubGlobal(
        "fetch",
        vi.fn(async (url: URL | string, init: RequestInit = {}) => {
            if (init.method === "DELETE") ended(new URL(String(url)).pathname);
            return String(url).endsWith("/sessions") ? Response.json(sessions) : answered(url, init);
        }),
    );
    expect(await back("code=c")).toBeUndefined();
    expect(ended.mock.calls).toEqual([["/api/auth/sessions/s"]]);
    expect(signIn.owesSignOut).toBe(false);
    expect(localStorage.getItem("posthouse.signed-in")).toBeNull();
    expect(await new SignIn(CONFIG).resume()).toBeUndefined();
});

test("a session that is owed an end is over when the realm has none, or another user", async () => {
    for (const answer of ["error=login_required", "code=c"]) {
        const signIn = new SignIn(CONFIG);
        signIn.oweSignOut(answer === "code=c" ? ANNA : ME);
        await new SignIn(CONFIG).resume();
        expect(await back(answer)).toEqual(
            answer === "code=c" ? expect.objectContaining({ user: ME }) : undefined,
        );
        expect(signIn.owesSignOut).toBe(false);
    }
});

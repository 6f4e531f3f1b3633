// The account: its profile, password, address and sessions, and its end. All throw a `CallError`.
import type {
    AccountDeleted,
    AuthSession,
    OwnEmailAddress,
    Page_AuthSession,
    PasswordChanged,
} from "./generated/auth.js";
import type { OwnProfile, UpdateProfileRequest } from "./generated/user.js";
import type { Identity } from "./messenger.js";

/** Returns the user's own profile, with the settings that no one else sees. */
export function profile(identity: Identity): Promise<OwnProfile> {
    return identity.call("GET", "/api/users/me");
}

/** Changes it; absent fields stay. */
export function updateProfile(identity: Identity, request: UpdateProfileRequest): Promise<OwnProfile> {
    return identity.call("PATCH", "/api/users/me", request);
}

/** Changes the password; all other sessions end. A wrong current one is `permission_denied`. */
export function changePassword(
    identity: Identity,
    current: string,
    next: string,
): Promise<PasswordChanged | undefined> {
    const body = { current_password: current, new_password: next };
    return identity.call("POST", "/api/auth/change-password", body);
}

export function email(identity: Identity): Promise<OwnEmailAddress> {
    return identity.call("GET", "/api/auth/email");
}

/** Sends a link to an address, which is that of the account once the link was used. A wrong password is `permission_denied`. */
export async function setEmail(identity: Identity, address: string, password: string): Promise<void> {
    await identity.call("PUT", "/api/auth/email", { email: address, current_password: password });
}

/** Deletes the account, for good. A wrong password is `unauthenticated`. The receipt is given here and nowhere else. */
export function deleteAccount(identity: Identity, username: string, password: string): Promise<AccountDeleted> {
    const body = { username, password };
    return identity.messenger.call("POST", "/api/auth/delete-account", { body });
}

/** Returns the sessions that go on, the last used one first. */
export async function sessions(identity: Identity): Promise<AuthSession[]> {
    const page: Page_AuthSession = await identity.call("GET", "/api/auth/sessions");
    return page.items;
}

export async function endSession(identity: Identity, session: string): Promise<void> {
    await identity.call("DELETE", `/api/auth/sessions/${session}`);
}

export async function endOtherSessions(identity: Identity): Promise<void> {
    await identity.call("DELETE", "/api/auth/sessions");
}

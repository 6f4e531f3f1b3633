// Groups and channels: who is in them, how they are, and how users come in. All throw a `CallError`.
import type {
    AddedMembers,
    Chat,
    ChatMember,
    CreatedInvite,
    CreateInviteRequest,
    Invite,
    InvitePreview,
    JoinRequest,
    Page_Invite,
    Page_PublicChat,
    Role,
    UpdateChatRequest,
} from "./generated/chat.js";
import type { Identity } from "./messenger.js";
import { all } from "./pages.js";

/** Returns all members of a chat, by id. */
export function members(identity: Identity, chat: string): Promise<ChatMember[]> {
    return all(identity, `/api/chats/${chat}/members`);
}

/** Adds plain members; those who were not are named in `refused`. */
export function addMembers(identity: Identity, chat: string, users: string[]): Promise<AddedMembers> {
    return identity.call("POST", `/api/chats/${chat}/members`, { user_ids: users });
}

/** Adds a member, or changes a member's role. Who makes another one the owner is an admin from then on. */
export function setRole(identity: Identity, chat: string, user: string, role: Role): Promise<ChatMember> {
    return identity.call("PUT", `/api/chats/${chat}/members/${user}`, { role });
}

/** Removes a member. */
export async function removeMember(identity: Identity, chat: string, user: string): Promise<void> {
    await identity.call("DELETE", `/api/chats/${chat}/members/${user}`);
}

export async function leave(identity: Identity, chat: string): Promise<void> {
    await identity.call("POST", `/api/chats/${chat}/leave`);
}

/** Returns a chat as the user sees it: also what no `ChatState` has, as its visibility. */
export function chat(identity: Identity, id: string): Promise<Chat> {
    return identity.call("GET", `/api/chats/${id}`);
}

/** Changes what a chat is called and for, its picture, and how its texts come and go; absent fields stay. */
export function update(identity: Identity, id: string, request: UpdateChatRequest): Promise<Chat> {
    return identity.call("PATCH", `/api/chats/${id}`, request);
}

/** Deletes a group, for all of its members and for good. */
export async function remove(identity: Identity, id: string): Promise<void> {
    await identity.call("DELETE", `/api/chats/${id}`);
}

/** Returns a page of the public groups and channels with these words in their titles, the newest first. */
export function publicChats(identity: Identity, words = "", cursor?: string): Promise<Page_PublicChat> {
    const parameters = new URLSearchParams();
    if (words !== "") parameters.set("q", words);
    if (cursor !== undefined) parameters.set("cursor", cursor);
    return identity.call("GET", `/api/chats/public${parameters.size > 0 ? `?${parameters}` : ""}`);
}

/** Joins a public group or channel. */
export function join(identity: Identity, id: string): Promise<Chat> {
    return identity.call("POST", `/api/chats/${id}/join`);
}

/** Returns the invite links of a chat that are good, without their codes. */
export async function invites(identity: Identity, id: string): Promise<Invite[]> {
    const page: Page_Invite = await identity.call("GET", `/api/chats/${id}/invites`);
    return page.items;
}

/** Makes an invite link. Its code is in the response, and never shown again. */
export function makeInvite(
    identity: Identity,
    id: string,
    request: CreateInviteRequest,
): Promise<CreatedInvite> {
    const headers = { "idempotency-key": crypto.randomUUID() };
    return identity.call("POST", `/api/chats/${id}/invites`, request, headers);
}

export async function revokeInvite(identity: Identity, id: string, invite: string): Promise<void> {
    await identity.call("DELETE", `/api/chats/${id}/invites/${invite}`);
}

/** Returns where an invite link leads. */
export function invite(identity: Identity, code: string): Promise<InvitePreview> {
    return identity.call("GET", `/api/invites/${encodeURIComponent(code)}`);
}

/** Joins by an invite link. Returns the chat, or that the user asks to join it and an owner or admin decides. */
export function joinByInvite(identity: Identity, code: string): Promise<Chat | JoinRequest> {
    return identity.call("POST", `/api/invites/${encodeURIComponent(code)}/join`);
}

/** Returns who asks to join a chat. */
export function joinRequests(identity: Identity, id: string): Promise<JoinRequest[]> {
    return all(identity, `/api/chats/${id}/requests`);
}

/** Lets a user in who asks to join. */
export async function accept(identity: Identity, id: string, user: string): Promise<void> {
    await identity.call("PUT", `/api/chats/${id}/requests/${user}`);
}

/** Declines the request of a user to join, or withdraws one's own. */
export async function decline(identity: Identity, id: string, user: string): Promise<void> {
    await identity.call("DELETE", `/api/chats/${id}/requests/${user}`);
}

// What the role of a user allows, by the rules of the service chat. The messenger decides; here it is what is offered.
import type { chat } from "@posthouse/client";
import type { ChatState } from "../state/chats";

type Role = chat.Role;

/** Writing, editing and pinning: in a channel for its owner and admins. */
export function mayWrite({ kind, role }: ChatState): boolean {
    return kind !== "channel" || role !== "member";
}

/** Members, links, title, topic, picture and the texts of others. */
export function manages({ kind, role }: ChatState): boolean {
    return kind !== "direct" && role !== "member";
}

/** When texts disappear: in a direct chat, either of the two. */
export function maySetExpiry(chat: ChatState): boolean {
    return chat.kind === "direct" || manages(chat);
}

/** An owner removes anyone, an admin plain members. */
export function mayRemove(own: Role, other: Role): boolean {
    return own === "owner" || (own === "admin" && other === "member");
}

/** The roles that a user may give to a member. */
export function rolesToGive(own: Role, other: Role): Role[] {
    const roles: Role[] = ["member", "admin", "owner"];
    return own === "owner" ? roles.filter((role) => role !== other) : [];
}

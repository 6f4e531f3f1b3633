// A messenger that a test speaks for: the state is real, and what it says and asks goes no further.
import type { Identity, Post, Session, socket, user } from "@posthouse/client";
import { render, type RenderResult } from "@testing-library/react";
import type { ReactNode } from "react";
import { vi, type Mock } from "vitest";
import type { Config } from "../src/config";
import { Preferences } from "../src/preferences";
import { Chats, Connection } from "../src/state/chats";
import { Drafts } from "../src/state/drafts";
import { Files } from "../src/state/files";
import { Kept } from "../src/state/kept";
import { Moderator } from "../src/state/moderator";
import { Notices } from "../src/state/notices";
import { Push } from "../src/state/push";
import { Room, type Line } from "../src/state/room";
import { Sends } from "../src/state/sends";
import { Users } from "../src/state/users";
import type { Workspace } from "../src/state/workspace";
import { Texts } from "../src/text/texts";
import en from "../src/text/languages/en.json";
import { PageProvider, WorkspaceProvider } from "../src/ui/context";

export const ME = "11111111-1111-4111-8111-111111111111";
export const ANNA = "22222222-2222-4222-8222-222222222222";
export const CHAT = "33333333-3333-4333-8333-333333333333";

/** Returns an entry of the chat; its key follows from its seq. */
export function entry(seq: number, fields: Partial<socket.Message> = {}): socket.Message {
    const key = `00000000-0000-4000-8000-${String(seq).padStart(12, "0")}`;
    return {
        chat: CHAT,
        seq,
        sender: ANNA,
        key,
        kind: "text",
        body: `text ${seq}`,
        sent_at_ms: 1_700_000_000_000 + seq * 1_000,
        ...fields,
    };
}

export function chatState(fields: Partial<socket.ChatState> = {}): socket.ChatState {
    return {
        ...{
            chat: CHAT,
            kind: "group",
            title: "Harbour",
            role: "member",
            member_count: 2,
            head_seq: 0,
            from_seq: 1,
            entries: [],
            limited: false,
        },
        own: { version: 1, archived: false, favourite: false },
        watermarks: { read_seq: 0, delivered_seq: 0, unread: 0, mentions: 0, counted_seq: 0 },
        ...fields,
    };
}

export function profile(user_id: string, username: string, display_name: string): user.UserProfile {
    return { user_id, username, display_name, about: "" };
}

/** A line to a messenger that has these entries. */
export function lineOf(log: socket.Message[]): {
    follow: Mock<Line["follow"]>;
    history: Mock<Line["history"]>;
} {
    const page = (messages: socket.Message[]) => ({ chat: CHAT, messages, head_seq: log.length, from_seq: 1 });
    return {
        follow: vi.fn<Line["follow"]>(),
        history: vi.fn<Line["history"]>(async ({ before, after, around, limit }: socket.History) => {
            const size = limit ?? 50;
            if (around != null)
                return page(log.filter(({ seq }) => seq >= around - size / 2 && seq < around + size / 2));
            if (before != null) return page(log.filter(({ seq }) => seq < before).slice(-size));
            return page(log.filter(({ seq }) => seq > (after ?? 0)).slice(0, size));
        }),
    };
}

export type Stand = {
    workspace: Workspace;
    /** What was sent, in order. */
    sent: Array<{ chat: string; post: Post; key: string }>;
    room: Room;
    show: (children: ReactNode) => RenderResult;
};

export async function stand(
    state: socket.ChatState = chatState(),
    log: socket.Message[] = [],
    config: Partial<Config> = {},
    here = log.length,
): Promise<Stand> {
    const sent: Stand["sent"] = [];
    const identity = {
        user: ME,
        call: vi.fn(async () => ({ items: [] })),
        updateOwnState: vi.fn(async () => state.own),
    } as unknown as Identity;
    const session: Pick<Session, "send"> = {
        send: (chat, post, key) => {
            sent.push({ chat, post: post as Post, key: key! });
            return new Promise(() => undefined);
        },
    };
    const kept = await Kept.open(crypto.randomUUID());
    const users = new Users(identity);
    users.take(profile(ME, "me", "Me Myself"), profile(ANNA, "anna", "Anna"));
    const chats = new Chats(ME);
    chats.take({ type: "synced", page: { chats: [state], cursor: "c", more: false, unread: 0, mentions: 0 } });
    const room = new Room(CHAT, ME, lineOf(log));
    room.open(1, log.length);
    for (const message of log.slice(-here)) room.take(message);
    const sends = new Sends(session, kept, { outgoing: [], refused: [] });
    const workspace = {
        ...{ user: ME, identity, chats, users, me: profile(ME, "me", "Me Myself") },
        connection: new Connection(),
        files: new Files(identity),
        moderator: new Moderator(identity),
        sends,
        drafts: new Drafts(identity, kept, []),
        notices: new Notices(identity),
        push: new Push(identity, async () => undefined),
        room: () => room,
        read: vi.fn(),
        typing: vi.fn(),
        activity: vi.fn(),
        attend: vi.fn(),
        members: vi.fn(async () => [
            { user_id: ME, role: "owner" },
            { user_id: ANNA, role: "member" },
        ]),
        send: (chat: string, post: Post) => sends.send(chat, post),
    } as unknown as Workspace;
    const page = {
        config: { name: "Acme", services: ["media", "search"], ...config },
        texts: new Texts("en", en),
        preferences: new Preferences(),
    };
    const show = (children: ReactNode) =>
        render(
            <PageProvider {...page}>
                <WorkspaceProvider value={workspace}>{children}</WorkspaceProvider>
            </PageProvider>,
        );
    return { workspace, sent, room, show };
}

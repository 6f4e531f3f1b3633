// A messenger that a test speaks for: the state is real, and what it says and asks goes no further.
import type { Identity, Post, Session, socket, user } from "@posthouse/client";
import { render, type RenderResult } from "@testing-library/react";
import type { ReactNode } from "react";
import { vi, type Mock } from "vitest";
import type { Config } from "../src/config";
import { Preferences } from "../src/preferences";
import { Avatars } from "../src/state/avatars";
import { Chats, Connection } from "../src/state/chats";
import { Drafts } from "../src/state/drafts";
import { Files } from "../src/state/files";
import { Kept } from "../src/state/kept";
import { Notices } from "../src/state/notices";
import { Push } from "../src/state/push";
import { Contacts } from "../src/state/contacts";
import { Pins } from "../src/state/pins";
import { Previews } from "../src/state/previews";
import { Room, type Line } from "../src/state/room";
import { Self } from "../src/state/self";
import { Sends } from "../src/state/sends";
import { Standing } from "../src/state/standing";
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
    /** What was asked by REST, as `METHOD path`, with the body. */
    calls: Array<{ call: string; body: unknown }>;
    /** Answers by `METHOD path`; a `CallError` is a refusal. Everything else is an empty list. */
    answers: Map<string, unknown>;
    show: (children: ReactNode) => RenderResult;
};

export async function stand(
    state: socket.ChatState = chatState(),
    log: socket.Message[] = [],
    config: Partial<Config> = {},
    here = log.length,
): Promise<Stand> {
    const sent: Stand["sent"] = [];
    const calls: Stand["calls"] = [];
    const answers: Stand["answers"] = new Map();
    const identity = {
        user: ME,
        call: vi.fn(async (method: string, path: string, body?: unknown) => {
            const call = `${method} ${path.replace(/\?limit=100$/, "")}`;
            calls.push({ call, body });
            const answer = answers.get(call) ?? { items: [] };
            if (answer instanceof Error) throw answer;
            return answer;
        }),
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
    const me: user.OwnProfile = { ...profile(ME, "me", "Me Myself"), contactable_by: "everyone" };
    const avatars = new Avatars(identity);
    const pinned = log.filter(({ changes }) => changes?.pinned_seq !== undefined).reverse();
    const workspace = {
        ...{ user: ME, identity, chats, users, me, avatars },
        self: new Self(identity, me, users, avatars),
        contacts: new Contacts(identity),
        pins: new Pins({ pins: async () => ({ chat: CHAT, messages: pinned, more: false }) }),
        previews: new Previews(identity),
        standing: new Standing(identity),
        connection: new Connection(),
        files: new Files(identity),
        sends,
        drafts: new Drafts(identity, kept, []),
        notices: new Notices(identity),
        push: new Push(identity, async () => undefined),
        room: () => room,
        read: vi.fn(),
        typing: vi.fn(),
        activity: vi.fn(),
        wake: vi.fn(),
        attend: vi.fn(),
        members: vi.fn(async () => [
            { user_id: ME, role: "owner" },
            { user_id: ANNA, role: "member" },
        ]),
        send: (chat: string, post: Post) => sends.send(chat, post),
        updateOwn: vi.fn(async () => undefined),
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
    return { workspace, sent, room, calls, answers, show };
}

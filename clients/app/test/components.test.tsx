import { act, cleanup, fireEvent, screen, waitFor, within } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { CallError, type Identity } from "@posthouse/client";
import { lazy, useState, type ReactNode } from "react";
import { expect, test, vi } from "vitest";
import { placeOf } from "../src/place";
import { Workspace } from "../src/state/workspace";
import { ChatListPanel } from "../src/ui/chat-list";
import { Composer, type Writing } from "../src/ui/composer";
import { Entry, SendingEntry } from "../src/ui/entry";
import { Later } from "../src/ui/later";
import { Dialog } from "../src/ui/parts";
import { Search } from "../src/ui/search";
import { Thread } from "../src/ui/thread";
import { UserPicker } from "../src/ui/user-picker";
import { ANNA, CHAT, chatState, entry, ME, profile, stand, type Stand } from "./stand";

function Written({ on, first = { is: "new" } }: { on: Stand; first?: Writing }) {
    const [writing, setWriting] = useState<Writing>(first);
    return (
        <Composer chat={on.workspace.chats.get(CHAT)!} id="composer" writing={writing} onWriting={setWriting} />
    );
}

test("a dialog whose file does not come says so, and the page goes on", async () => {
    const on = await stand();
    const Lost = lazy(() => Promise.reject<{ default: () => ReactNode }>(new TypeError("failed to fetch")));
    const silent = vi.spyOn(console, "error").mockImplementation(() => undefined);
    const onClose = vi.fn();
    on.show(
        <>
            <p>the page</p>
            <Later title="Invite links" onClose={onClose}>
                <Lost />
            </Later>
        </>,
    );
    await screen.findByText(/does not respond/);
    const dialog = within(screen.getByRole("dialog", { name: "Invite links" }));
    await userEvent.click(dialog.getByRole("button", { name: "Close" }));
    expect(onClose).toHaveBeenCalledOnce();
    screen.getByText("the page");
    silent.mockRestore();
});

test("a dialog is closed while it is still in the page: then a browser gives the focus back", async () => {
    const on = await stand();
    const wasThere: boolean[] = [];
    vi.spyOn(HTMLDialogElement.prototype, "close").mockImplementation(function (this: HTMLDialogElement) {
        wasThere.push(this.isConnected);
    });
    const shown = on.show(
        <Dialog title="Settings" onClose={() => undefined}>
            <input aria-label="Name" />
        </Dialog>,
    );
    expect(document.activeElement).toBe(screen.getByRole("textbox", { name: "Name" }));
    shown.unmount();
    expect(wasThere).toEqual([true]);
});

test("an emoji is chosen by the arrows, and the focus goes back", async () => {
    const { doing } = await shownEntry({});
    const button = screen.getByRole("button", { name: "React" });
    await userEvent.click(button);
    await userEvent.keyboard("{ArrowRight}{ArrowLeft}{ArrowRight}{Enter}");
    expect(doing.mock.calls.map(([action]) => action)).toEqual([{ do: "react", emoji: "❤️", isOwn: false }]);
    expect(screen.queryByRole("menu")).toBeNull();
    expect(document.activeElement).toBe(button);
});

test("the name of who wrote stands above a message in a group, and the side says it elsewhere", async () => {
    const heading = () => screen.getByRole("article").querySelector("header")!;
    await shownEntry({ sender: ANNA }, chatState({ kind: "group" }));
    expect(heading().className).toBe("");
    cleanup();
    await shownEntry({ sender: ANNA }, chatState({ kind: "direct" }));
    expect(heading().className).toBe("visually-hidden");
    expect(screen.getByRole("article", { name: /anna/i })).toBeDefined();
});

test("Enter sends, Shift+Enter breaks the line, and the draft is gone once it is sent", async () => {
    const on = await stand();
    on.show(<Written on={on} />);
    const field = screen.getByRole("textbox", { name: "Message" });
    await userEvent.type(field, "one{Shift>}{Enter}{/Shift}two");
    expect(on.workspace.drafts.get(CHAT).body).toBe("one\ntwo");
    await userEvent.keyboard("{Enter}");
    expect(on.sent.map(({ post }) => post)).toEqual([{ kind: "text", body: "one\ntwo" }]);
    expect(on.workspace.drafts.get(CHAT).body).toBe("");
    await waitFor(() => expect(field).toHaveProperty("value", ""));
});

test("a key that ends a composition sends nothing", async () => {
    const on = await stand();
    on.show(<Written on={on} />);
    const field = screen.getByRole("textbox", { name: "Message" });
    await userEvent.type(field, "にほん");
    fireEvent.keyDown(field, { key: "Enter", isComposing: true });
    expect(on.sent).toEqual([]);
});

test("a member's name is completed by the keyboard and called by its id", async () => {
    const on = await stand();
    on.show(<Written on={on} />);
    const field = screen.getByRole("textbox", { name: "Message" });
    await waitFor(() => expect(on.workspace.members).toHaveBeenCalled());
    await userEvent.type(field, "hi @an");
    const option = await screen.findByRole("option", { name: /anna/i });
    expect(field.getAttribute("aria-activedescendant")).toBe(option.id);
    await userEvent.keyboard("{Enter}now{Enter}");
    expect(on.sent[0]!.post).toEqual({ kind: "text", body: "hi @anna now", mentions: [ANNA] });
});

test("all members are called by a word, which says how many they are", async () => {
    const on = await stand(chatState({ member_count: 12 }));
    on.show(<Written on={on} />);
    const field = screen.getByRole("textbox", { name: "Message" });
    await userEvent.type(field, "@al");
    expect((await screen.findByRole("option")).textContent).toBe("@all all 12 members");
    await userEvent.keyboard("{Enter}come{Enter}");
    expect(on.sent[0]!.post).toEqual({ kind: "text", body: "@all come", mentionAll: true });
});

test("two who talk call no one else", async () => {
    const on = await stand(chatState({ kind: "direct", other: ANNA }));
    on.show(<Written on={on} />);
    await userEvent.type(screen.getByRole("textbox", { name: "Message" }), "@all");
    expect(screen.queryByRole("option")).toBeNull();
    await userEvent.keyboard("{Enter}");
    expect(on.sent[0]!.post).toEqual({ kind: "text", body: "@all" });
});

test("what is too long is said, not sent and not lost", async () => {
    const on = await stand();
    on.show(<Written on={on} />);
    const field = screen.getByRole("textbox", { name: "Message" });
    const text = "я".repeat(8_193);
    fireEvent.change(field, { target: { value: text } });
    expect((await screen.findByRole("alert")).textContent).toContain("16 KiB");
    fireEvent.keyDown(field, { key: "Enter" });
    expect(on.sent).toEqual([]);
    expect(on.workspace.drafts.get(CHAT).body).toBe(text);
});

test("an edit begins with the text that is there, and Escape leaves it as it was", async () => {
    const on = await stand();
    on.workspace.drafts.set(CHAT, { body: "a draft" });
    on.show(<Written on={on} first={{ is: "edit", seq: 3, body: "before" }} />);
    const field = screen.getByRole("textbox", { name: "Message" });
    await waitFor(() => expect(field).toHaveProperty("value", "before"));
    await userEvent.type(field, "{Escape}");
    await waitFor(() => expect(field).toHaveProperty("value", "a draft"));
    expect(on.sent).toEqual([]);
});

async function shownEntry(message: Parameters<typeof entry>[1], state = chatState()) {
    const on = await stand(state, [entry(1), entry(2, message)]);
    const doing = vi.fn();
    const props = {
        chat: state,
        room: on.room,
        isFollowUp: false,
        isActive: false,
        isTabbable: true,
        onActive: () => undefined,
    };
    const { unmount } = on.show(<Entry {...props} message={on.room.get(2)!} act={doing} />);
    return { doing, unmount, article: screen.getByRole("article") };
}

test("an own message says how far it is, in words too", async () => {
    for (const [marks, expected] of [
        [{}, "Sent"],
        [{ other_delivered_seq: 2 }, "Delivered"],
        [{ other_delivered_seq: 2, other_read_seq: 2 }, "Read"],
    ] as const) {
        const { article, unmount } = await shownEntry(
            { sender: ME },
            chatState({ kind: "direct", other: ANNA, ...marks }),
        );
        expect(within(article).getByText(expected)).toBeDefined();
        unmount();
    }
});

test("a reaction is pressed when it is one's own, and is taken back then", async () => {
    const reactions = [{ emoji: "👍", count: 2, own: true, users: [ME, ANNA] }];
    const { doing } = await shownEntry({ changes: { seq: 2, reactions } });
    const button = screen.getByRole("button", { name: /👍, 2 users: Me Myself and Anna/ });
    expect(button.getAttribute("aria-pressed")).toBe("true");
    await userEvent.click(button);
    expect(doing).toHaveBeenCalledWith(
        { do: "react", emoji: "👍", isOwn: true },
        expect.objectContaining({ seq: 2 }),
    );
});

test("a deletion is asked for twice, and another user's message has none for a plain member", async () => {
    const { doing, unmount } = await shownEntry({ sender: ME });
    await userEvent.click(screen.getByRole("button", { name: "Delete" }));
    expect(doing).not.toHaveBeenCalled();
    await userEvent.click(screen.getByRole("button", { name: "Delete for all members" }));
    expect(doing).toHaveBeenCalledWith({ do: "delete" }, expect.objectContaining({ seq: 2 }));
    unmount();
    await shownEntry({ sender: ANNA });
    expect(screen.queryByRole("button", { name: "Delete" })).toBeNull();
});

test("a deleted message shows nothing of what it was", async () => {
    const { article } = await shownEntry({ body: "", changes: { seq: 3, deleted_seq: 3 } });
    expect(article.textContent).toContain("Message deleted");
    expect(within(article).queryByRole("group")).toBeNull();
});

test("a refused message says why, and offers another attempt", async () => {
    const on = await stand();
    on.workspace.send(CHAT, { kind: "text", body: "hello" });
    const { key } = on.sent[0]!;
    on.workspace.sends.take(
        { type: "send", chat: CHAT, key, state: { state: "failed", code: "rate_limited" } },
        true,
    );
    on.show(<SendingEntry sending={on.workspace.sends.textsOf(CHAT)[0]!} />);
    expect(screen.getByRole("alert").textContent).toContain("Too much at once");
    await userEvent.click(screen.getByRole("button", { name: "Try again" }));
    expect(on.sent).toHaveLength(2);
});

test("the list counts what is unread, and follows what comes", async () => {
    const unread = chatState({
        watermarks: { read_seq: 0, delivered_seq: 0, unread: 3, mentions: 1, counted_seq: 3 },
        head_seq: 3,
        entries: [entry(3)],
    });
    const on = await stand(unread);
    on.show(<ChatListPanel place={{ chat: CHAT }} />);
    const link = screen.getByRole("link", { name: /Harbour/ });
    expect(link.getAttribute("aria-current")).toBe("page");
    expect(link.textContent).toContain("3 unread messages, 1 mention of you");
    act(() => on.workspace.chats.take({ type: "elsewhere", message: entry(4, { body: "new" }) }));
    await waitFor(() => expect(link.textContent).toContain("4 unread messages"));
    expect(link.textContent).toContain("new");
});

test("a chat is muted and archived in its row of the list, and the keyboard goes on at the next row", async () => {
    const on = await stand();
    const other = "44444444-4444-4444-8444-444444444444";
    const page = { chats: [chatState({ chat: other, title: "Lighthouse" })], cursor: "d", more: false };
    on.workspace.chats.take({ type: "synced", page: { ...page, unread: 0, mentions: 0 } });
    on.show(<ChatListPanel place={{}} />);
    const menu = () => screen.getByRole("button", { name: "Actions for Harbour" });
    await userEvent.click(menu());
    await userEvent.click(screen.getByRole("menuitem", { name: "Mute…" }));
    await userEvent.click(await screen.findByRole("button", { name: "1 hour" }));
    const { updateOwn } = on.workspace;
    expect(updateOwn).toHaveBeenCalledWith(CHAT, { muted_until_ms: expect.any(Number) });
    menu().focus();
    await userEvent.keyboard("{Enter}{End}{Enter}");
    expect(updateOwn).toHaveBeenLastCalledWith(CHAT, { archived: true });
    expect(document.activeElement).toBe(screen.getByRole("link", { name: /Lighthouse/ }));
});

test("the user is called you in what the chat says of them", async () => {
    const on = await stand();
    const say = (fields: Parameters<typeof entry>[1]) => {
        const chats = [chatState({ head_seq: 5, entries: [entry(5, fields)] })];
        act(() =>
            on.workspace.chats.take({
                type: "synced",
                page: { chats, cursor: "d", more: false, unread: 0, mentions: 0 },
            }),
        );
    };
    on.show(<ChatListPanel place={{}} />);
    for (const [fields, text] of [
        [{ kind: "pin", sender: ME, body: "" }, "You pinned a message"],
        [{ kind: "role_changed", subject: ME, body: "admin" }, "You are now: admin"],
        [{ kind: "member_added", subject: ME, body: "" }, "You are in the chat"],
        [{ kind: "role_changed", subject: ANNA, body: "admin" }, "Anna is now: admin"],
    ] as const) {
        say(fields);
        expect(await screen.findByText(text)).toBeTruthy();
    }
});

test("who looks like another in a group is shown with a username, and no one else is", async () => {
    const eve = "55555555-5555-4555-8555-555555555555";
    const group = chatState({ member_count: 3 });
    const on = await stand(group, [entry(1), entry(2, { sender: eve })]);
    const props = {
        ...{ chat: group, room: on.room, act: () => undefined, onActive: () => undefined },
        ...{ isFollowUp: false, isActive: false, isTabbable: true },
    };
    on.show([1, 2].map((seq) => <Entry key={seq} {...props} message={on.room.get(seq)!} />));
    act(() => on.workspace.users.take(profile(eve, "eve", "Eve")));
    expect(screen.queryByText("@anna")).toBeNull();
    act(() => on.workspace.users.take(profile(eve, "eve", "Аnna")));
    const named = async (name: string) => (await screen.findByText(name)).closest("header")!.textContent;
    expect(await named("@anna")).toBe("Anna @anna");
    expect(await named("@eve")).toBe("Аnna @eve");
});

test("a thread has the focus while it is open, and the chat has it afterwards", async () => {
    const on = await stand(chatState({ head_seq: 1 }), [entry(1)]);
    Object.assign(on.workspace, { replies: async () => ({ messages: [], more: false }) });
    const shown = (isOpen: boolean) => (
        <>
            <Written on={on} />
            {isOpen && <Thread chat={chatState({ head_seq: 1 })} seq={1} act={() => undefined} />}
        </>
    );
    const Toggled = () => {
        const [isOpen, setIsOpen] = useState(true);
        return (
            <>
                {shown(isOpen)}
                <button onClick={() => setIsOpen(false)}>away</button>
            </>
        );
    };
    on.show(<Toggled />);
    await screen.findByRole("heading", { level: 1, name: "Thread" });
    expect(document.activeElement?.id).toBe("thread-composer");
    await userEvent.click(screen.getByRole("button", { name: "away" }));
    expect(document.activeElement?.id).toBe("composer");
});

test("users with names that look alike are told apart by their usernames", async () => {
    const on = await stand();
    const found = [
        { user_id: ANNA, username: "anna", display_name: "Anna" },
        { user_id: ME, username: "anna2", display_name: "\u202eAnna" },
    ];
    Object.assign(on.workspace, { findUsers: async () => found });
    const onChosen = vi.fn();
    on.show(<UserPicker chosen={[]} onChosen={onChosen} except={[]} />);
    await userEvent.type(screen.getByRole("searchbox"), "ann");
    await userEvent.click(await screen.findByRole("button", { name: /@anna2/ }));
    expect(onChosen).toHaveBeenCalledWith([found[1]]);
});

test("a search finds messages, chats and users, and leads to each", async () => {
    const on = await stand();
    const message = { chat_id: CHAT, seq: 7, sender: ANNA, sent_at_ms: 0, edited: false };
    const searchMessages = vi.fn(async () => ({
        items: [{ ...message, excerpt: [{ text: "the " }, { text: "harbour", found: true }] }],
        complete: true,
    }));
    const searchNames = vi.fn(async () => ({
        chats: [{ chat_id: CHAT, kind: "group", name: "Harbour watch" }],
        users: [{ user_id: ANNA, username: "anna", display_name: "Anna Harbour" }],
    }));
    const createChat = vi.fn(async () => CHAT);
    Object.assign(on.workspace, { searchMessages, searchNames, createChat });
    on.show(<Search onClose={() => undefined} />);
    await userEvent.type(screen.getByRole("searchbox"), "harbour{Enter}");
    const message7 = await screen.findByRole("link", { name: /the harbour/ });
    expect(placeOf(new URL((message7 as HTMLAnchorElement).href).hash)).toEqual({ chat: CHAT, at: 7 });
    const chat = screen.getByRole("link", { name: "Harbour watch" });
    expect(placeOf(new URL((chat as HTMLAnchorElement).href).hash)).toEqual({ chat: CHAT });
    await userEvent.click(screen.getByRole("button", { name: /@anna/ }));
    expect(createChat).toHaveBeenCalledWith({ kind: "direct", members: [ANNA] });
    await waitFor(() => expect(placeOf(location.hash)).toEqual({ chat: CHAT }));
    expect(searchNames).toHaveBeenCalledWith("harbour");
});

test("a user who has a direct chat is found once, and what is no name names nothing", async () => {
    const user = (user_id: string, username: string) => ({ user_id, username, display_name: username });
    const findChats = async () => [{ chat_id: CHAT, kind: "direct", name: "Anna", other: ANNA }];
    const find = (findUsers: () => Promise<unknown>) =>
        Workspace.prototype.searchNames.call(
            { user: ME, identity: { findChats, findUsers } as unknown as Identity } as Workspace,
            "anna",
        );
    const other = user("44444444-4444-4444-8444-444444444444", "annabel");
    const found = await find(async () => [user(ANNA, "anna"), user(ME, "anna2"), other]);
    expect(found.chats).toHaveLength(1);
    expect(found.users).toEqual([other]);
    const problem = { type: "", title: "", status: 400, code: "invalid_argument" } as const;
    const refused = find(() => Promise.reject(new CallError("no name", 400, problem)));
    expect(await refused).toEqual({ chats: [], users: [] });
    await expect(find(() => Promise.reject(new CallError("down", 0)))).rejects.toThrow("down");
});

// The screens beyond writing: each does what it says, by its roles and names, and says what was refused.
import { act, cleanup, screen, waitFor, within } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { CallError, type ErrorCode } from "@posthouse/client";
import { useState } from "react";
import { expect, test, vi } from "vitest";
import AboutChat from "../src/ui/about-chat";
import { Access, Privacy, Sanctions } from "../src/ui/account";
import { Attachments } from "../src/ui/attachments";
import { ChatMenu } from "../src/ui/chat-menu";
import { Composer, type Writing } from "../src/ui/composer";
import { Entry } from "../src/ui/entry";
import Forward from "../src/ui/forward";
import Invites from "../src/ui/invites";
import Join from "../src/ui/join";
import { Members } from "../src/ui/members";
import { PinBar } from "../src/ui/pins";
import Report from "../src/ui/report";
import Scheduled from "../src/ui/scheduled";
import UserPanel from "../src/ui/user-panel";
import { WritingPlace } from "../src/ui/writing-place";
import { placeOf } from "../src/place";
import { ANNA, CHAT, chatState, entry, ME, stand, type Stand } from "./stand";

const nothing = () => undefined;

function refusal(code: ErrorCode, status = 403): CallError {
    return new CallError(code, status, { type: "", title: "", status, code });
}

async function choose(menu: string | RegExp, item: string | RegExp): Promise<void> {
    await userEvent.click(await screen.findByRole("button", { name: menu }));
    await userEvent.click(within(screen.getByRole("menu")).getByRole("menuitem", { name: item }));
}

/** What was asked of the messenger to change something. */
const changes = ({ calls }: Stand) => calls.filter(({ call }) => !call.startsWith("GET"));

test("an owner makes a member an admin at once, and an owner after a question", async () => {
    const on = await stand(chatState({ role: "owner" }));
    on.show(<Members chat={CHAT} onClose={nothing} />);
    await choose("What to do about Anna", "Make an admin");
    const path = `PUT /api/chats/${CHAT}/members/${ANNA}`;
    await waitFor(() => expect(changes(on)).toEqual([{ call: path, body: { role: "admin" } }]));
    await choose("What to do about Anna", "Make the owner");
    expect(changes(on)).toHaveLength(1);
    expect(screen.getByText(/Only Anna can give it back/)).toBeDefined();
    await userEvent.click(screen.getByRole("button", { name: "Make the owner" }));
    await waitFor(() => expect(changes(on)[1]).toEqual({ call: path, body: { role: "owner" } }));
});

test("who comes while the members are fetched is among them, however late the first answer is", async () => {
    const on = await stand(chatState({ role: "owner" }));
    const answers: Array<(members: object[]) => void> = [];
    Object.assign(on.workspace, { members: () => new Promise((resolve) => answers.push(resolve)) });
    on.show(<Members chat={CHAT} onClose={nothing} />);
    expect(answers).toHaveLength(1);
    const page = { chats: [chatState({ role: "owner", member_count: 3 })], cursor: "c", more: false };
    on.workspace.chats.take({ type: "synced", page: { ...page, unread: 0, mentions: 0 } });
    await waitFor(() => expect(answers).toHaveLength(2));
    const me = { user_id: ME, role: "owner" };
    await act(async () => {
        answers[1]!([me, { user_id: ANNA, role: "member" }]);
        answers[0]!([me]);
    });
    expect(screen.getByText("@anna")).toBeDefined();
});

test("a picture that cannot be opened is said so", async () => {
    const attachment = { file: "f", name: "cat.png", size: 10, type: "image/png", width: 10, height: 10 };
    const on = await stand();
    const path = "GET /api/media/files/f";
    on.answers.set(path, { links: { content: "/content/f", expires_at_ms: 0 } });
    on.show(<Attachments attachments={[attachment]} tabIndex={0} />);
    const picture = await screen.findByRole("button", { name: /cat\.png/ });
    on.answers.set(path, refusal("unavailable", 503));
    await userEvent.click(picture);
    await waitFor(() => expect(screen.getByRole("status").textContent).toContain("not available"));
});

test("a plain member is offered nothing about others", async () => {
    const on = await stand(chatState({ role: "member" }));
    on.show(<Members chat={CHAT} onClose={nothing} />);
    await screen.findByText("@anna");
    expect(screen.queryByRole("button", { name: /What to do about/ })).toBeNull();
    expect(screen.queryByRole("link", { name: "Invite links" })).toBeNull();
});

test("a menu is opened, walked and closed by the keyboard, and the focus comes back", async () => {
    const on = await stand(chatState({ role: "owner" }));
    on.show(<ChatMenu chat={on.workspace.chats.get(CHAT)!} place={{ chat: CHAT }} />);
    const button = screen.getByRole("button", { name: "What to do with the chat" });
    act(() => button.focus());
    await userEvent.keyboard("{Enter}");
    const items = screen.getAllByRole("menuitem");
    expect(document.activeElement).toBe(items[0]);
    await userEvent.keyboard("{ArrowUp}");
    expect(document.activeElement).toBe(items.at(-1));
    await userEvent.keyboard("{Home}{ArrowDown}");
    expect(document.activeElement).toBe(items[1]);
    await userEvent.keyboard("{Escape}");
    expect(screen.queryByRole("menu")).toBeNull();
    expect(document.activeElement).toBe(button);
});

test("a chat is muted for a time, made a favourite and archived", async () => {
    const on = await stand();
    on.show(<ChatMenu chat={on.workspace.chats.get(CHAT)!} place={{ chat: CHAT }} />);
    const menu = "What to do with the chat";
    await choose(menu, "Mute…");
    const before = Date.now();
    await userEvent.click(screen.getByRole("button", { name: "8 hours" }));
    await choose(menu, "Add to favourites");
    await choose(menu, "Archive");
    const [mute, favourite, archive] = vi.mocked(on.workspace.updateOwn).mock.calls;
    const until = mute![1].muted_until_ms! - before;
    expect([Math.round(until / 3_600_000), favourite, archive]).toEqual([
        ...[8, [CHAT, { favourite: true }], [CHAT, { archived: true }]],
    ]);
});

test("a link is made with its terms, shown once, and revoked; who asks is let in", async () => {
    const on = await stand(chatState({ role: "admin" }));
    const path = `/api/chats/${CHAT}`;
    const invite = { invite_id: "i", made_by: ANNA, created_at_ms: 0, uses: 2, needs_approval: true };
    on.answers.set(`POST ${path}/invites`, { ...invite, code: "the-code" });
    on.answers.set(`GET ${path}/invites`, { items: [invite] });
    on.answers.set(`GET ${path}/requests`, { items: [{ chat_id: CHAT, user_id: ANNA, requested_at_ms: 0 }] });
    on.show(<Invites chat={CHAT} onClose={nothing} />);
    await screen.findByText(/2 users came by it/);
    await userEvent.selectOptions(screen.getByLabelText("The link is good for"), "1 day");
    await userEvent.type(screen.getByLabelText(/How many users/), "5");
    await userEvent.click(screen.getByLabelText(/decides on each/));
    await userEvent.click(screen.getByRole("button", { name: "Make a link" }));
    const link = await screen.findByText(/the-code/);
    expect(placeOf(new URL(link.textContent).hash)).toEqual({ invite: "the-code" });
    await userEvent.click(screen.getByRole("button", { name: "Let Anna in" }));
    // Each row has such a button, which its link describes.
    const description = /2 users came by it/;
    await userEvent.click(screen.getByRole("button", { name: "Revoke", description }));
    await waitFor(() => expect(changes(on)).toHaveLength(3));
    expect(changes(on)).toEqual([
        {
            call: `POST ${path}/invites`,
            body: { expires_in_seconds: 86_400, max_uses: 5, needs_approval: true },
        },
        { call: `PUT ${path}/requests/${ANNA}`, body: undefined },
        { call: `DELETE ${path}/invites/i`, body: undefined },
    ]);
});

test("an invitation says where it leads before it is taken, and that an approval is needed", async () => {
    const on = await stand();
    on.answers.set("GET /api/invites/code", { title: "Harbour", member_count: 7, needs_approval: true });
    Object.assign(on.workspace, { joinByInvite: vi.fn(async () => undefined) });
    on.show(<Join code="code" />);
    expect(await screen.findByText("Harbour")).toBeDefined();
    expect(on.workspace.joinByInvite).not.toHaveBeenCalled();
    await userEvent.click(screen.getByRole("button", { name: "Ask to join" }));
    expect(await screen.findByText(/You have asked to join/)).toBeDefined();
});

test("an invitation that leads nowhere says so", async () => {
    const on = await stand();
    on.answers.set("GET /api/invites/code", refusal("not_found", 404));
    on.show(<Join code="code" />);
    expect((await screen.findByRole("alert")).textContent).toContain("expired, used up or revoked");
});

test("a group's title, topic and slow mode are changed, each by what changed of it", async () => {
    const on = await stand(chatState({ role: "admin", topic: "Boats" }));
    on.show(<AboutChat chat={CHAT} onClose={nothing} />);
    const topic = await screen.findByLabelText("Topic");
    await userEvent.clear(topic);
    await userEvent.type(topic, "Ships");
    await userEvent.click(screen.getByRole("button", { name: "Save" }));
    const path = `PATCH /api/chats/${CHAT}`;
    await waitFor(() => expect(changes(on)).toEqual([{ call: path, body: { topic: "Ships" } }]));
    await userEvent.selectOptions(screen.getByLabelText(/Slow mode/), "1 minute");
    await waitFor(() => expect(changes(on)[1]).toEqual({ call: path, body: { slow_mode_seconds: 60 } }));
    expect(screen.queryByRole("button", { name: "Delete the group" })).toBeNull();
});

test("both users of a direct chat set when messages disappear, and nothing else", async () => {
    const on = await stand(chatState({ kind: "direct", other: ANNA, message_ttl_seconds: 120 }));
    on.show(<AboutChat chat={CHAT} onClose={nothing} />);
    const expiry = screen.getByLabelText("Messages disappear after");
    // What another client has set is among the choices.
    expect((expiry as HTMLSelectElement).value).toBe("120");
    await userEvent.selectOptions(expiry, "1 week");
    await waitFor(() => expect(changes(on)[0]?.body).toEqual({ message_ttl_seconds: 604_800 }));
    expect(screen.queryByLabelText("Topic")).toBeNull();
});

test("a message is pinned, forwarded and reported from its menu", async () => {
    const on = await stand(chatState(), [entry(1)], { services: ["moderation"] });
    const doing = vi.fn();
    const props = { chat: chatState(), room: on.room, isFollowUp: false, isActive: true, isTabbable: true };
    on.show(<Entry {...props} message={on.room.get(1)!} onActive={nothing} act={doing} />);
    for (const name of ["Pin", "Forward", "Report"]) await choose("More", name);
    expect(doing.mock.calls.map(([action]) => action)).toEqual([
        { do: "pin", remove: false },
        { do: "forward" },
        { do: "report" },
    ]);
});

test("where there are no moderators, nothing is reported to them", async () => {
    const on = await stand(chatState(), [entry(1)], { services: [] });
    const props = { chat: chatState(), room: on.room, isFollowUp: false, isActive: true, isTabbable: true };
    on.show(<Entry {...props} message={on.room.get(1)!} onActive={nothing} act={nothing} />);
    await userEvent.click(screen.getByRole("button", { name: "More" }));
    expect(screen.queryByRole("menuitem", { name: "Report" })).toBeNull();
});

test("the last pin stands below the name of the chat, and leads to its message", async () => {
    const pins = [1, 2].map((seq) => entry(seq, { changes: { seq: 3, pinned_seq: 3 } }));
    const on = await stand(chatState(), pins);
    on.show(<PinBar chat={chatState()} place={{ chat: CHAT }} />);
    const link = await screen.findByRole("link", { name: /text 2/ });
    expect(placeOf(new URL((link as HTMLAnchorElement).href).hash)).toEqual({ chat: CHAT, at: 2 });
    expect(screen.getByRole("link", { name: "2 pinned" })).toBeDefined();
});

test("a message is forwarded to the chosen chat", async () => {
    const on = await stand(chatState(), [entry(1)]);
    const onClose = vi.fn();
    on.show(<Forward message={on.room.get(1)!} onClose={onClose} />);
    await userEvent.click(screen.getByLabelText(/Harbour/));
    await userEvent.click(screen.getByRole("button", { name: "Forward to 1 chat" }));
    expect(on.sent.map(({ chat, post }) => [chat, post])).toEqual([
        [CHAT, { kind: "forward", fromChat: CHAT, fromSeq: 1 }],
    ]);
    expect(onClose).toHaveBeenCalled();
});

test("a report has a reason, and its sender can be blocked with it", async () => {
    const on = await stand();
    on.show(<Report message={entry(4)} onClose={nothing} />);
    const send = screen.getByRole("button", { name: "Send the report" });
    expect(send).toHaveProperty("disabled", true);
    await userEvent.click(screen.getByLabelText("Insults or harassment"));
    await userEvent.type(screen.getByLabelText(/What else/), "again");
    await userEvent.click(screen.getByLabelText("Block Anna, too"));
    await userEvent.click(send);
    expect(await screen.findByText(/The moderators have your report/)).toBeDefined();
    expect(changes(on)).toEqual([
        {
            call: "POST /api/moderation/reports",
            body: { chat: CHAT, seq: 4, reason: "abuse", comment: "again" },
        },
        { call: `PUT /api/blocks/${ANNA}`, body: undefined },
    ]);
});

async function writingPlace(state = chatState(), sanctions: object[] = []): Promise<Stand> {
    const on = await stand(state);
    on.answers.set("GET /api/moderation/own", { sanctions, appeals: [], moderates: false });
    await on.workspace.standing.load();
    on.show(
        <WritingPlace chat={state} place={{ chat: CHAT }}>
            <p>the composer</p>
        </WritingPlace>,
    );
    return on;
}

test("who is muted by moderators reads so, until when and why, and writes again when it is over", async () => {
    const until = Date.now() + 400;
    const mute = { id: "s", user: ME, kind: "mute", note: "Three links", created_at_ms: 0, chat: CHAT };
    await writingPlace(chatState(), [{ ...mute, until_ms: until }]);
    const notice = screen.getByText(/Moderators have muted you/).closest("[role=status]")!;
    expect(notice.textContent).toContain("muted you in this chat");
    expect(notice.textContent).toContain("It ends");
    expect(notice.textContent).toContain("Three links");
    expect(screen.queryByText("the composer")).toBeNull();
    expect(await screen.findByText("the composer")).toBeDefined();
});

test("who blocks the other user writes again once the block is lifted", async () => {
    const on = await writingPlace(chatState({ kind: "direct", other: ANNA }));
    await act(() => on.workspace.contacts.block(ANNA));
    expect(await screen.findByText(/You block Anna/)).toBeDefined();
    await userEvent.click(screen.getByRole("button", { name: "Unblock" }));
    expect(await screen.findByText("the composer")).toBeDefined();
});

test("rules of the chat stand above the field: a plain member waits, and an admin does not", async () => {
    const slow = { slow_mode_seconds: 60, message_ttl_seconds: 3_600 };
    await writingPlace(chatState(slow));
    expect(screen.getByText(/you wait 1 minute/)).toBeDefined();
    expect(screen.getByText(/disappear after: 1 hour/)).toBeDefined();
    cleanup();
    await writingPlace(chatState({ ...slow, role: "admin" }));
    expect(screen.queryByText(/you wait/)).toBeNull();
    expect(screen.getByText(/disappear after: 1 hour/)).toBeDefined();
});

function Written({ on }: { on: Stand }) {
    const [writing, setWriting] = useState<Writing>({ is: "new" });
    return (
        <Composer chat={on.workspace.chats.get(CHAT)!} id="composer" writing={writing} onWriting={setWriting} />
    );
}

test("a message is scheduled in place of being sent, and its draft is gone then", async () => {
    const on = await stand();
    const schedule = vi.fn(async () => undefined);
    Object.assign(on.workspace.identity, { schedule });
    on.show(<Written on={on} />);
    await userEvent.type(screen.getByRole("textbox", { name: "Message" }), "good morning @here ");
    await choose("Delivery options", "Send later…");
    await userEvent.click(await screen.findByRole("button", { name: "Tomorrow morning" }));
    await userEvent.click(screen.getByRole("button", { name: "Schedule" }));
    await waitFor(() => expect(on.workspace.drafts.get(CHAT).body).toBe(""));
    const written = { body: "good morning @here", mention_here: true };
    const request = expect.objectContaining(written) as unknown;
    expect(schedule).toHaveBeenCalledWith(CHAT, request);
    expect(on.sent).toEqual([]);
});

test("a message is sent without a notification", async () => {
    const on = await stand();
    on.show(<Written on={on} />);
    await userEvent.type(screen.getByRole("textbox", { name: "Message" }), "psst");
    await choose("Delivery options", "Send without a notification");
    expect(on.sent.map(({ post }) => post)).toEqual([{ kind: "text", body: "psst", silent: true }]);
});

test("a scheduled message that was refused says why, and is sent at once or called off", async () => {
    const on = await stand();
    const message = { chat_id: CHAT, key: "k", body: "late", send_at_ms: 0, refused: "not_a_member" };
    const identity = {
        scheduled: vi.fn(async () => [message]),
        sendScheduled: vi.fn(async () => undefined),
        cancelScheduled: vi.fn(async () => undefined),
    };
    Object.assign(on.workspace.identity, identity);
    on.show(<Scheduled chat={CHAT} onClose={nothing} />);
    expect(await screen.findByText(/Not sent. You are not in this chat/)).toBeDefined();
    await userEvent.click(screen.getByRole("button", { name: "Send now" }));
    await waitFor(() => expect(identity.sendScheduled).toHaveBeenCalledWith(CHAT, "k"));
    await userEvent.click(await screen.findByRole("button", { name: "Call it off" }));
    await waitFor(() => expect(identity.cancelScheduled).toHaveBeenCalledWith(CHAT, "k"));
});

test("a user is put into the contacts with an own name, which names them from then on", async () => {
    const on = await stand();
    const contact = { added_at_ms: 0, profile: on.workspace.users.get(ANNA) };
    const path = `PUT /api/users/me/contacts/${ANNA}`;
    on.answers.set(path, contact);
    on.show(<UserPanel user={ANNA} onClose={nothing} />);
    await userEvent.click(screen.getByRole("button", { name: "Add to contacts" }));
    on.answers.set(path, { ...contact, name: "Captain" });
    await userEvent.type(await screen.findByLabelText("Your name for them"), "Captain");
    await userEvent.click(screen.getByRole("button", { name: "Save" }));
    expect(await screen.findByText("Captain")).toBeDefined();
    expect(changes(on).map(({ body }) => body)).toEqual([{}, { name: "Captain" }]);
});

test("who may reach the user is set at once, and stays as it was when it is refused", async () => {
    const on = await stand();
    const me = on.workspace.self.profile;
    on.answers.set("PATCH /api/users/me", { ...me, contactable_by: "nobody" });
    on.show(<Privacy />);
    const field = screen.getByLabelText(/Who may write to me first/) as HTMLSelectElement;
    await userEvent.selectOptions(field, "no one");
    await waitFor(() => expect(field.value).toBe("nobody"));
    on.answers.set("PATCH /api/users/me", refusal("unavailable", 503));
    await userEvent.selectOptions(field, "everyone");
    expect((await screen.findByRole("alert")).textContent).toContain("not available");
    expect(field.value).toBe("nobody");
});

test("a wrong password is said to be one, and a new one takes all other sessions with it", async () => {
    const on = await stand();
    const path = "POST /api/auth/change-password";
    on.answers.set(path, refusal("permission_denied"));
    on.show(<Access />);
    const form = within(screen.getByRole("heading", { name: "Password" }).closest("form")!);
    await userEvent.type(form.getByLabelText("Current password"), "wrong");
    await userEvent.type(form.getByLabelText("New password"), "a longer one");
    await userEvent.click(form.getByRole("button", { name: "Change the password" }));
    expect((await form.findByRole("alert")).textContent).toContain("current password is wrong");
    on.answers.set(path, { email: "me@example.com" });
    await userEvent.click(form.getByRole("button", { name: "Change the password" }));
    expect(await form.findByText(/all other sessions have ended.*me@example.com/)).toBeDefined();
    expect(form.getByLabelText("Current password")).toHaveProperty("value", "");
});

test("an account is deleted with the password and a second word, and not before", async () => {
    const on = await stand();
    const deleteAccount = vi.fn(async () => undefined);
    Object.assign(on.workspace, { deleteAccount });
    on.show(<Access />);
    await userEvent.click(screen.getByRole("button", { name: "Delete the account…" }));
    const form = within(screen.getByRole("button", { name: "Delete the account" }).closest("form")!);
    await userEvent.type(form.getByLabelText("Current password"), "a password");
    const sure = form.getByLabelText(/no way back/);
    expect(sure).toHaveProperty("required", true);
    await userEvent.click(sure);
    await userEvent.click(form.getByRole("button", { name: "Delete the account" }));
    await waitFor(() => expect(deleteAccount).toHaveBeenCalledWith("a password"));
});

test("a sanction is appealed against once", async () => {
    const on = await stand(chatState(), [], { services: ["moderation"] });
    const sanctions = [{ id: "s", user: ME, kind: "warning", note: "Be kind", created_at_ms: 0 }];
    on.answers.set("GET /api/moderation/own", { sanctions, appeals: [], moderates: false });
    const appeal = { id: "a", sanction: "s", state: "open", text: "no", user: ME, created_at_ms: 0 };
    on.answers.set("POST /api/moderation/appeals", appeal);
    on.show(<Sanctions />);
    expect(await screen.findByText("Be kind")).toBeDefined();
    await userEvent.type(screen.getByLabelText("Why it is wrong"), "I was");
    await userEvent.click(screen.getByRole("button", { name: "Appeal" }));
    expect(await screen.findByText(/You have appealed/)).toBeDefined();
    expect(screen.queryByRole("button", { name: "Appeal" })).toBeNull();
    expect(changes(on)[0]?.body).toEqual({ sanction: "s", text: "I was" });
});

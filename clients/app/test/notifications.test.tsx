// Settings of notifications, and what links of mails open, over a messenger that speaks the protocol.
import { render, screen, waitFor, within } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import type { Identity } from "@posthouse/client";
import { beforeEach, expect, test, vi } from "vitest";
import { Preferences } from "../src/preferences";
import { SignIn } from "../src/sign-in";
import { Notices } from "../src/state/notices";
import { Texts } from "../src/text/texts";
import { App } from "../src/ui/app";
import { FakeMessenger } from "./messenger";

const SUBSCRIPTIONS = "/api/notifications/subscriptions";
let messenger: FakeMessenger;

beforeEach(() => {
    messenger = new FakeMessenger();
    messenger.install();
});

async function show(): Promise<void> {
    const signIn = new SignIn({ name: "Acme", services: ["notification"] });
    render(<App signIn={signIn} preferences={new Preferences()} firstTexts={await Texts.load("en")} />);
}

/** Opens the settings of a user who is notified there. */
async function opened(items: unknown[] = []): Promise<HTMLElement> {
    history.replaceState(null, "", "/#/?panel=notifications");
    messenger.answers.set(`GET ${SUBSCRIPTIONS}`, () => [200, { items }]);
    await show();
    await userEvent.type(await screen.findByLabelText("Username"), "me");
    await userEvent.type(screen.getByLabelText("Password"), "a password");
    await userEvent.click(screen.getByRole("button", { name: "Sign in" }));
    await screen.findByRole("heading", { name: "Where" }, { timeout: 5_000 });
    return screen.getByRole("dialog", { name: "Notifications", hidden: true });
}

const subscription = (fields: object) => ({ id: "s", confirmed: true, created_at_ms: 0, ...fields });

test("level, text and quiet hours are set together", async () => {
    await opened();
    const set = vi.fn((body: unknown): [number, unknown] => [200, body]);
    messenger.answers.set("PUT /api/notifications/preferences", set);
    await userEvent.selectOptions(screen.getByLabelText("Notify me of"), "mentions and direct chats");
    await userEvent.click(screen.getByLabelText("Show the text of messages"));
    await userEvent.click(screen.getByLabelText("Be quiet for some hours of the day"));
    await userEvent.selectOptions(screen.getByLabelText("Time zone"), "Europe/Moscow");
    await userEvent.click(screen.getByRole("button", { name: "Save" }));
    await screen.findByText("Saved");
    const quiet = { from: "22:00", to: "07:00", time_zone: "Europe/Moscow" };
    expect(set.mock.calls).toEqual([[{ level: "mentions", shows_text: false, quiet }]]);
});

test("the secret of a webhook is shown once", async () => {
    const dialog = await opened();
    messenger.answers.set(`POST ${SUBSCRIPTIONS}`, (body) => {
        expect(body).toEqual({ webhook: { url: "https://hooks.example/a" } });
        return [200, subscription({ channel: "webhook", name: "hooks.example", secret: "s3cret" })];
    });
    const form = within(dialog).getByRole("form", {
        name: "Signed requests to a server of yours",
        hidden: true,
    });
    await userEvent.type(
        within(form).getByLabelText("Address of the server"),
        "https://hooks.example/a{Enter}",
    );
    expect(await screen.findByText("s3cret")).toBeDefined();
    expect(JSON.stringify({ ...localStorage })).not.toContain("s3cret");
    await userEvent.click(screen.getByRole("button", { name: "Remove hooks.example", hidden: true }));
    await waitFor(() => expect(screen.queryByText("s3cret")).toBeNull());
    expect(messenger.calls).toContain(`DELETE ${SUBSCRIPTIONS}/s`);
});

test("a secret is in no state of the page", async () => {
    const added = subscription({ channel: "webhook", name: "hooks.example", secret: "s3cret" });
    const notices = new Notices({ call: async () => added } as unknown as Identity);
    expect((await notices.add({ webhook: { url: "https://hooks.example/a" } })).secret).toBe("s3cret");
    expect(JSON.stringify(notices.subscriptions)).not.toContain("s3cret");
});

test("a number counts once its code is confirmed, and a wrong code is said so", async () => {
    await opened([subscription({ channel: "sms", name: "+440000000000", confirmed: false })]);
    const problem = { type: "", title: "", status: 403, code: "permission_denied" };
    messenger.answers.set(`POST ${SUBSCRIPTIONS}/s/confirmation`, (body) =>
        (body as { code: string }).code === "012345" ? [204, undefined] : [403, problem],
    );
    const field = screen.getByLabelText("Code of the text message to +440000000000");
    await userEvent.type(field, "000000{Enter}");
    expect((await screen.findByRole("alert", { hidden: true })).textContent).toContain("not the code");
    await userEvent.clear(field);
    await userEvent.type(field, "012345{Enter}");
    await waitFor(() => expect(screen.queryByLabelText(/^Code of/)).toBeNull());
});

test.each([
    ["email_confirmation", "POST /api/auth/email/confirm", "Your e-mail address is confirmed."],
    ["notifications_confirmation", "POST /api/notifications/confirmations", "gets mails about unread"],
    ["notifications_end", "POST /api/notifications/unsubscriptions/T", "You get no more of these mails."],
])("the link %s of a mail does what it says, without a sign-in", async (kind, call, said) => {
    history.replaceState(null, "", `/#${kind}=T`);
    messenger.answers.set(call, () => [204, undefined]);
    await show();
    expect(await screen.findByText(new RegExp(said))).toBeDefined();
    expect(messenger.calls).toEqual([call]);
    expect(location.hash).toBe("");
    await userEvent.click(screen.getByRole("button", { name: "To the messenger" }));
    expect(await screen.findByLabelText("Username")).toBeDefined();
});

test("a link that is not good any more is said so", async () => {
    history.replaceState(null, "", "/#email_confirmation=T");
    const problem = { type: "", title: "", status: 404, code: "not_found" };
    messenger.answers.set("POST /api/auth/email/confirm", () => [404, problem]);
    await show();
    expect((await screen.findByRole("alert")).textContent).toContain("not good any more");
});

test("a link waits for a messenger that does not answer", async () => {
    history.replaceState(null, "", "/#notifications_end=T");
    messenger.isDown = true;
    await show();
    expect((await screen.findByRole("alert")).textContent).toContain("does not respond");
    expect(location.hash).toBe("#notifications_end=T");
    messenger.up();
    messenger.answers.set("POST /api/notifications/unsubscriptions/T", () => [204, undefined]);
    await userEvent.click(screen.getByRole("button", { name: "Try again" }));
    expect(await screen.findByText(/You get no more/)).toBeDefined();
});

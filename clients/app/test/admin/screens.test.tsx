import { act, screen, waitFor, within } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { expect, test, vi } from "vitest";
import { href } from "../../src/place";
import { Appeals } from "../../src/ui/admin/appeals";
import { Audit } from "../../src/ui/admin/audit";
import { ExportsScreen } from "../../src/ui/admin/exports";
import { Invitations } from "../../src/ui/admin/invitations";
import { UserList } from "../../src/ui/admin/users";
import { Queue } from "../../src/ui/admin/queue";
import { Roles } from "../../src/ui/admin/roles";
import { RuleSet } from "../../src/ui/admin/rule-set";
import { Rules } from "../../src/ui/admin/rules";
import { Usage } from "../../src/ui/admin/usage";
import { UserScreen } from "../../src/ui/admin/user";
import { ANNA, CHAT, ME, profile } from "../stand";
import { adminStand, BAN, refusal, REPORT, SET, type Call } from "./stand";

const REPORTS = "GET /api/moderation/reports";
const DECIDE = `POST /api/moderation/reports/${REPORT.id}/decision`;

test("a report shows what was reported as text, and what is decided goes out as it was chosen", async () => {
    const on = await adminStand({
        [REPORTS]: { items: [REPORT] },
        [DECIDE]: ({ body }: Call) => ({
            ...REPORT,
            state: "upheld",
            decision: { at_ms: 1_700_000_100_000, by: ME, note: (body as { note: string }).note },
        }),
    });
    on.show(<Queue />);
    const report = within(await screen.findByRole("article"));
    expect(report.getByText("buy <b>this</b>").tagName).toBe("BLOCKQUOTE");
    report.getByText("offer.pdf (application/pdf)");
    report.getByText("spam");
    expect(on.service.calls[0]!.path).toBe("/api/moderation/reports?state=open");
    await userEvent.click(report.getByLabelText("Delete the message, for good"));
    await userEvent.selectOptions(report.getByLabelText("Sanction"), "Mute");
    await userEvent.selectOptions(report.getByLabelText("For how long"), "1 week");
    await userEvent.click(report.getByLabelText(/whole messenger/));
    await userEvent.type(report.getByLabelText("Note"), "adverts");
    await userEvent.click(report.getByRole("button", { name: "Uphold" }));
    await report.findByText("upheld");
    expect(on.service.of(DECIDE)[0]!.body).toEqual({
        ...{ upheld: true, note: "adverts", delete: true },
        sanction: { kind: "mute", everywhere: true, seconds: 604_800 },
    });
    expect(report.queryByRole("button", { name: "Uphold" })).toBeNull();
    expect(document.activeElement).toBe(screen.getByRole("article"));
});

test("a report that is dismissed deletes nothing and punishes no one, whatever was ticked", async () => {
    const on = await adminStand({
        [REPORTS]: { items: [REPORT] },
        [DECIDE]: { ...REPORT, state: "dismissed", decision: { at_ms: 1, by: ME, note: "" } },
    });
    on.show(<Queue />);
    await userEvent.click(await screen.findByLabelText("Delete the message, for good"));
    await userEvent.selectOptions(screen.getByLabelText("Sanction"), "Ban");
    await userEvent.click(screen.getByRole("button", { name: "Dismiss" }));
    await screen.findByText("dismissed", { selector: ".role" });
    expect(on.service.of(DECIDE)[0]!.body).toEqual({ upheld: false, note: "" });
});

test("a decision that is refused says why in the messenger's words, and the note stays", async () => {
    const on = await adminStand({
        [REPORTS]: { items: [REPORT] },
        [DECIDE]: () => {
            throw refusal("unavailable", "the store does not respond");
        },
    });
    on.show(<Queue />);
    await userEvent.type(await screen.findByLabelText("Note"), "adverts");
    await userEvent.click(screen.getByRole("button", { name: "Uphold" }));
    expect((await screen.findByRole("alert")).textContent).toContain("the store does not respond");
    expect(screen.getByLabelText("Note")).toHaveProperty("value", "adverts");
});

test("an empty queue says so, and a filter that another answer has overtaken shows its own", async () => {
    const on = await adminStand({
        [REPORTS]: ({ path }: Call) => ({
            items: path.includes("upheld") ? [{ ...REPORT, state: "upheld" }] : [],
        }),
    });
    on.show(<Queue />);
    await screen.findByText("No reports.");
    await userEvent.selectOptions(screen.getByLabelText("Show"), "upheld");
    await screen.findByRole("article");
    expect(screen.queryByText("No reports.")).toBeNull();
});

test("an appeal stands beside the sanction that it is against", async () => {
    const appeal = {
        ...{ id: "a", sanction: BAN.id, user: ANNA, text: "it was a joke", state: "open", created_at_ms: 1 },
    };
    const on = await adminStand({
        "GET /api/moderation/appeals": { items: [appeal] },
        "GET /api/moderation/sanctions": { items: [BAN] },
        "POST /api/moderation/appeals/a/decision": {
            ...appeal,
            state: "accepted",
            decision: { at_ms: 2, by: ME, note: "fine" },
        },
    });
    on.show(<Appeals />);
    await screen.findByText("it was a joke");
    await screen.findByText("Ban, everywhere, and for good");
    await userEvent.type(screen.getByLabelText("Note"), "fine");
    await userEvent.click(screen.getByRole("button", { name: /Accept/ }));
    await screen.findByText("accepted", { selector: ".role" });
    expect(on.service.of("POST /api/moderation/appeals/a/decision")[0]!.body).toEqual({
        accepted: true,
        note: "fine",
    });
});

test("users are found by the beginning of a name, and each leads to their screen", async () => {
    const on = await adminStand({
        "GET /api/users": ({ path }: Call) => ({
            items: path.includes("query=an")
                ? [profile(ANNA, "anna", "Anna")]
                : [profile(ANNA, "anna", "Anna"), profile(ME, "me", "Me Myself")],
            next_cursor: null,
        }),
    });
    on.show(<UserList />);
    await screen.findByRole("link", { name: /@me/ });
    await userEvent.type(screen.getByLabelText("Find users by name"), "an");
    await waitFor(() => expect(screen.queryByRole("link", { name: /@me/ })).toBeNull());
    expect((await screen.findByRole("link", { name: /@anna/ })).getAttribute("href")).toBe(
        `#/admin/users?of=${ANNA}`,
    );
});

const MODERATORS = "GET /api/moderation/moderators";

test("roles say who moderates, how the manifest names them, and which name is still free to take", async () => {
    const on = await adminStand({
        [MODERATORS]: {
            items: [{ named: "anna", user: ANNA }, { named: `id:${ME}`, user: ME }, { named: "max" }],
        },
    });
    on.show(<Roles />);
    const [anna, me, max] = (await screen.findAllByRole("article")).map((card) => within(card));
    expect(anna!.getByRole("link", { name: /@anna/ }).getAttribute("href")).toBe(`#/admin/users?of=${ANNA}`);
    expect(anna!.getByText("anna").parentElement!.textContent).toBe("Named by the username anna");
    expect(me!.getByText(ME).parentElement!.textContent).toBe(`Named by the id ${ME}`);
    max!.getByText("No user");
    max!.getByText(/first one who takes it/);
    expect(max!.queryByRole("link")).toBeNull();
    // Who decides it, and who is to be asked. Nothing here changes it.
    screen.getByText(/spec\.moderation\.moderators/);
    screen.getByText(/ask the team that runs the messenger/);
    expect(screen.queryByRole("button")).toBeNull();
});

test("roles that could not be read are read again by the keyboard", async () => {
    const on = await adminStand({
        [MODERATORS]: () => {
            throw refusal("unavailable", "the user service does not respond");
        },
    });
    on.show(<Roles />);
    expect((await screen.findByRole("alert")).textContent).toContain("the user service does not respond");
    on.service.answers[MODERATORS] = { items: [{ named: "anna", user: ANNA }] };
    await userEvent.tab();
    expect(document.activeElement).toBe(screen.getByRole("button", { name: "Try again" }));
    await userEvent.keyboard("{Enter}");
    await screen.findByRole("link", { name: /@anna/ });
    expect(screen.queryByRole("alert")).toBeNull();
});

test("moderators are marked in the list of users and on their own screen, and other users are not", async () => {
    const on = await adminStand({
        [MODERATORS]: { items: [{ named: "anna", user: ANNA }] },
        "GET /api/users": { items: [profile(ANNA, "anna", "Anna"), profile(ME, "me", "Me Myself")] },
        "GET /api/moderation/sanctions": { items: [] },
        [`GET /api/moderation/users/${ANNA}/sessions`]: { items: [] },
        [`GET /api/moderation/users/${ME}/sessions`]: { items: [] },
    });
    const list = on.show(<UserList />);
    const marked = (await screen.findByText("moderator")).closest("li")!;
    within(marked).getByRole("link", { name: /@anna/ });
    await screen.findByRole("link", { name: /@me/ });
    expect(screen.getAllByText("moderator")).toHaveLength(1);
    list.unmount();
    const anna = on.show(<UserScreen id={ANNA} />);
    expect((await screen.findByRole("link", { name: "moderator" })).getAttribute("href")).toBe("#/admin/roles");
    anna.unmount();
    on.show(<UserScreen id={ME} />);
    await screen.findByText("The user is signed in nowhere.");
    expect(screen.queryByText("moderator")).toBeNull();
    expect(on.service.of(MODERATORS)).toHaveLength(1);
});

test("a ban is asked twice, stands at the top, and is lifted with a note", async () => {
    const lifted = { at_ms: 2, by: ME, note: "enough" };
    const on = await adminStand({
        "GET /api/moderation/sanctions": { items: [] },
        "POST /api/moderation/sanctions": BAN,
        [`POST /api/moderation/sanctions/${BAN.id}/lift`]: { ...BAN, lifted },
        [`GET /api/moderation/users/${ANNA}/sessions`]: { items: [] },
    });
    on.show(<UserScreen id={ANNA} />);
    await screen.findByText("Nothing is forbidden to this user everywhere.");
    await userEvent.selectOptions(screen.getByLabelText("Sanction"), "Ban");
    await userEvent.selectOptions(screen.getByLabelText("For how long"), "for good");
    await userEvent.click(screen.getByRole("button", { name: "Ban" }));
    const dialog = within(await screen.findByRole("dialog", { name: "Ban" }));
    expect(on.service.of("POST /api/moderation/sanctions")).toEqual([]);
    dialog.getByText(/cannot sign in/);
    await userEvent.click(dialog.getByRole("button", { name: "Ban" }));
    await screen.findByText("Banned: the account is closed.");
    expect(on.service.of("POST /api/moderation/sanctions")[0]!.body).toEqual({
        ...{ user: ANNA, kind: "ban", note: "" },
    });
    await userEvent.click(screen.getByRole("button", { name: "Unban" }));
    const lifting = within(await screen.findByRole("dialog", { name: "Unban" }));
    await userEvent.type(lifting.getByLabelText("Note"), "enough");
    await userEvent.click(lifting.getByRole("button", { name: "Unban" }));
    await screen.findByText("Nothing is forbidden to this user everywhere.");
    expect(on.service.of(`POST /api/moderation/sanctions/${BAN.id}/lift`)[0]!.body).toEqual({
        note: "enough",
    });
});

test("a mute of one chat is not asked twice, and says where it holds", async () => {
    const mute = { ...BAN, kind: "mute", chat: CHAT, until_ms: Date.now() + 86_400_000 };
    const on = await adminStand({
        "GET /api/moderation/sanctions": { items: [] },
        "POST /api/moderation/sanctions": mute,
        [`GET /api/moderation/users/${ANNA}/sessions`]: { items: [] },
    });
    on.show(<UserScreen id={ANNA} />);
    await userEvent.selectOptions(await screen.findByLabelText("Sanction"), "Mute");
    await userEvent.selectOptions(screen.getByLabelText("Where"), "Harbour");
    await userEvent.click(screen.getByRole("button", { name: "Mute" }));
    const sanction = within(await screen.findByRole("article"));
    sanction.getByText("Harbour");
    expect(on.service.of("POST /api/moderation/sanctions")[0]!.body).toEqual({
        ...{ user: ANNA, kind: "mute", note: "", chat: CHAT, seconds: 86_400 },
    });
    expect(screen.getByText("Nothing is forbidden to this user everywhere.")).toBeDefined();
});

test("of a long text its beginning is shown, and the rest when it is wanted", async () => {
    const text = `${"😀".repeat(1_000)}the end`;
    const on = await adminStand({
        [REPORTS]: { items: [{ ...REPORT, evidence: { ...REPORT.evidence, text } }] },
    });
    on.show(<Queue />);
    const quote = await screen.findByText(/😀/);
    expect(quote.textContent).toBe(`${"😀".repeat(1_000)}…`);
    await userEvent.click(screen.getByRole("button", { name: "Show more" }));
    expect(quote.textContent).toBe(text);
});

test("sessions of a user are listed and ended, all of them too", async () => {
    let sessions = ["one", "two", "three"].map((session_id) => ({
        ...{ session_id, started_at_ms: 1, last_used_at_ms: 2 },
    }));
    const ended = (id: string) => () =>
        void (sessions = sessions.filter(({ session_id }) => session_id !== id));
    const path = `/api/moderation/users/${ANNA}/sessions`;
    const on = await adminStand({
        "GET /api/moderation/sanctions": { items: [] },
        [`GET ${path}`]: () => ({ items: sessions }),
        [`DELETE ${path}/one`]: ended("one"),
        [`DELETE ${path}/two`]: ended("two"),
        [`DELETE ${path}/three`]: ended("three"),
    });
    on.show(<UserScreen id={ANNA} />);
    await userEvent.click((await screen.findAllByRole("button", { name: "End" }))[0]!);
    await waitFor(() => expect(screen.getAllByRole("button", { name: "End" })).toHaveLength(2));
    await userEvent.click(screen.getByRole("button", { name: "End all sessions" }));
    await screen.findByText("The user is signed in nowhere.");
    expect(sessions).toEqual([]);
});

test("a rule set is written, and what is wrong with it is said before it is sent", async () => {
    const on = await adminStand({
        "GET /api/moderation/rule-sets": { items: [] },
        "POST /api/moderation/rule-sets": SET,
    });
    on.show(<Rules />);
    await screen.findByText("There are no rule sets.");
    await userEvent.click(screen.getByRole("button", { name: "New rule set" }));
    await userEvent.type(screen.getByLabelText("Name of the set"), "Adverts");
    await userEvent.click(screen.getByRole("button", { name: "Save as a draft" }));
    expect((await screen.findByRole("alert")).textContent).toContain("each rule a name");
    const rule = within(screen.getByRole("group", { name: "Rule 1" }));
    await userEvent.type(rule.getByLabelText("Rule"), "offers");
    await userEvent.type(rule.getByLabelText("Words and phrases"), "offer{Enter}buy now");
    await userEvent.click(screen.getByRole("button", { name: "Add a rule" }));
    const second = within(screen.getByRole("group", { name: "Rule 2" }));
    await userEvent.click(second.getByRole("button", { name: "Remove rule 2" }));
    await userEvent.click(screen.getByRole("button", { name: "Save as a draft" }));
    await waitFor(() => expect(location.hash).toBe(href({ admin: "rules", of: SET.id })));
    expect(on.service.of("POST /api/moderation/rule-sets")[0]!.body).toEqual({
        name: "Adverts",
        rules: [{ name: "offers", test: { words: { words: ["offer", "buy now"] } }, action: { report: true } }],
    });
});

test("a draft is run in shadow, shows what it would have done, and is enforced with that before the eyes", async () => {
    const path = `/api/moderation/rule-sets/${SET.id}`;
    const figures = { caught: 0, deletions: 0, reports: 0, sanctions: 0, rules: [] };
    const run = {
        ...{ rule_set: SET.id, days: 30, started_at_ms: 1_700_000_000_000, from_ms: 1_699_900_000_000 },
        ...{ state: "done", judged: 400, samples: [], figures, unjudged: 0 },
    };
    const done = {
        ...run,
        figures: { ...figures, caught: 8, reports: 8, rules: [{ rule: "offers", caught: 8 }] },
        samples: [{ chat: CHAT, rule: "offers", sender: ANNA, sent_at_ms: 1, seq: 3, text: "an <i>offer</i>" }],
    };
    const on = await adminStand({
        "GET /api/moderation/rule-sets": { items: [SET] },
        [`GET ${path}/figures`]: figures,
        [`POST ${path}/shadow`]: done,
        [`POST ${path}/enforce`]: { ...SET, state: "enforced", enforced_from_ms: 1_700_000_200_000 },
    });
    on.show(<RuleSet id={SET.id} />);
    await screen.findByText("draft");
    await userEvent.click(screen.getByRole("button", { name: "Enforce" }));
    within(screen.getByRole("dialog")).getByText(/what it would catch is not known/);
    await userEvent.click(within(screen.getByRole("dialog")).getByRole("button", { name: "Cancel" }));
    const days = screen.getByLabelText("Days back");
    await userEvent.clear(days);
    await userEvent.type(days, "30");
    await userEvent.click(screen.getByRole("button", { name: "Run in shadow" }));
    await screen.findByText("It would have caught 8 messages.", { selector: "[role=status]" });
    expect(on.service.of(`POST ${path}/shadow`)[0]!.body).toEqual({ days: 30 });
    screen.getByText("8 (2%)");
    screen.getByText("an <i>offer</i>");
    screen.getByText(/does not reach back 30 days/);
    await userEvent.click(screen.getByRole("button", { name: "Enforce" }));
    const dialog = within(screen.getByRole("dialog"));
    dialog.getByText(/caught 8 of 400 messages/);
    await userEvent.click(dialog.getByRole("button", { name: "Enforce" }));
    await screen.findByText("in force");
    expect(screen.getByRole("button", { name: "Retire" })).toBeDefined();
    expect(screen.queryByRole("button", { name: "Remove the set" })).toBeNull();
});

test("a set that is not there is said so", async () => {
    const on = await adminStand({ "GET /api/moderation/rule-sets": { items: [] } });
    on.show(<RuleSet id={SET.id} />);
    await screen.findByText("It is not there.");
});

test("the audit log is narrowed by what was done and to a user, and an entry of a later release keeps its name", async () => {
    history.replaceState(null, "", `/${href({ admin: "audit", of: ANNA })}`);
    const on = await adminStand({
        "GET /api/moderation/audit": {
            items: [
                { id: 2, at_ms: 2, action: "sanction_created", subject: BAN.id, by: ME, user: ANNA },
                { id: 1, at_ms: 1, action: "moon_phase_changed", subject: "x" },
            ],
        },
    });
    on.show(<Audit />);
    await screen.findByText("moon_phase_changed");
    await userEvent.selectOptions(screen.getByLabelText("What was done"), "Sanction given");
    await waitFor(() =>
        expect(on.service.calls.at(-1)!.path).toBe(
            `/api/moderation/audit?action=sanction_created&user=${ANNA}`,
        ),
    );
    await userEvent.selectOptions(screen.getByLabelText("Entries"), "done by this user");
    await waitFor(() =>
        expect(on.service.calls.at(-1)!.path).toBe(`/api/moderation/audit?action=sanction_created&by=${ANNA}`),
    );
    await userEvent.click(screen.getByRole("button", { name: "All users" }));
    await waitFor(() =>
        expect(on.service.calls.at(-1)!.path).toBe("/api/moderation/audit?action=sanction_created"),
    );
});

test("invitations are for groups that the user has charge of, and are what they are in the group itself", async () => {
    const chat = (chat_id: string, role: string, kind = "group") => ({
        ...{ chat_id, role, kind, title: `${role} ${kind}`, member_count: 2, created_at_ms: 1 },
    });
    const on = await adminStand({
        "GET /api/chats": {
            items: [chat(CHAT, "owner"), chat("o", "member"), chat("d", "owner", "direct")],
        },
    });
    const invite = {
        invite_id: "i",
        made_by: ME,
        created_at_ms: 1,
        uses: 1,
        needs_approval: true,
        max_uses: 3,
    };
    on.answers.set(`POST /api/chats/${CHAT}/invites`, { ...invite, code: "c0de" });
    on.answers.set(`GET /api/chats/${CHAT}/invites`, { items: [invite] });
    on.show(<Invitations chat={CHAT} />);
    const groups = await screen.findByLabelText("Group or channel");
    expect(
        within(groups)
            .getAllByRole("option")
            .map(({ textContent }) => textContent),
    ).toEqual(["Choose a group", "owner group"]);
    await userEvent.click(screen.getByRole("button", { name: "Make a link" }));
    await screen.findByText(/c0de/);
    on.answers.set(`GET /api/chats/${CHAT}/invites`, { items: [] });
    await userEvent.click(screen.getByRole("button", { name: "Revoke" }));
    await screen.findByText("There is none.");
    expect(screen.queryByText(/c0de/)).toBeNull();
    expect(document.activeElement).toBe(screen.getByRole("heading", { name: "Links that are good" }));
});

test("usage is shown in numbers that lead to what they count", async () => {
    const on = await adminStand({
        "GET /api/moderation/usage": {
            ...{ users: 1_200, open_reports: 3, open_appeals: 0, muted_users: 1, banned_users: 2 },
            ...{ enforced_rule_sets: 1, caught: 17 },
        },
    });
    on.show(<Usage />);
    expect((await screen.findByRole("link", { name: "1,200" })).getAttribute("href")).toBe("#/admin/users");
    screen.getByRole("link", { name: "3" });
    screen.getByText("17");
});

test("an export ends as a file that the browser saves", async () => {
    const made = vi.spyOn(URL, "createObjectURL").mockReturnValue("blob:file");
    const clicked = vi.spyOn(HTMLAnchorElement.prototype, "click").mockImplementation(() => undefined);
    const on = await adminStand({ "GET /api/moderation/audit": { items: [{ id: 1 }] } });
    on.show(<ExportsScreen />);
    await userEvent.click(screen.getByRole("button", { name: "Make the file" }));
    await screen.findByText("Audit log: 1 line is saved.");
    await waitFor(() => expect(clicked).toHaveBeenCalledTimes(1));
    expect((clicked.mock.contexts[0] as HTMLAnchorElement).download).toMatch(/^audit-\d{4}-\d\d-\d\d\.jsonl$/);
    expect(await (made.mock.calls[0]![0] as Blob).text()).toBe('{"id":1}\n');
});

test("the heading of a screen has the focus when it is opened", async () => {
    const on = await adminStand({ [REPORTS]: { items: [] } });
    act(() => void on.show(<Queue />));
    expect(document.activeElement).toBe(screen.getByRole("heading", { name: "Reports" }));
});

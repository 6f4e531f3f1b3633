// The page as users meet it, by roles and names, against an API server that knows rights.
import { act, render, screen, waitFor, within } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { beforeEach, expect, test, vi } from "vitest";
import { Texts } from "../src/text/texts";
import { App } from "../src/ui/app";
import { cell, condition, deployment, FakeKubernetes, tenant, TOKEN } from "./kubernetes";

let server: FakeKubernetes;

beforeEach(() => {
    server = new FakeKubernetes();
    const broken = { ...condition("Ready", "False", "SecretInvalid"), message: "KafkaReady: no key; add it" };
    server.tenants = [tenant("acme"), tenant("globex", { conditions: [broken] })];
    server.cells = [cell("local", 4, 5)];
    server.deployments = [deployment("acme-chat", 2)];
    server.install();
});

async function opened(token = TOKEN, language = "en"): Promise<void> {
    render(<App texts={await Texts.load([language])} />);
    await userEvent.type(screen.getByLabelText(language === "ru" ? "Токен" : "Token"), token);
    await userEvent.click(screen.getByRole("button", { name: language === "ru" ? "Войти" : "Sign in" }));
}

function goTo(fragment: string): void {
    act(() => {
        location.hash = fragment;
        window.dispatchEvent(new HashChangeEvent("hashchange"));
    });
}

async function atTenant(): Promise<void> {
    await opened();
    await screen.findByRole("link", { name: "acme" });
    goTo("#/tenant/acme/acme");
    await screen.findByRole("heading", { name: "acme/acme" });
    await screen.findByRole("button", { name: "Delete" });
}

test("a token that is not taken is said so, and the field keeps it", async () => {
    await opened("expired");
    expect((await screen.findByRole("alert")).textContent).toContain("does not take this token");
    expect(screen.getByLabelText("Token")).toHaveProperty("value", "expired");
});

test("over an open connection no token is asked for", async () => {
    vi.stubGlobal("isSecureContext", false);
    render(<App texts={await Texts.load([])} />);
    expect(screen.getByRole("alert").textContent).toContain("not loaded over a secure connection");
    expect(screen.queryByLabelText("Token")).toBeNull();
    vi.unstubAllGlobals();
});

test("all tenants at a glance: what each is at, and the next step", async () => {
    await opened();
    const row = (await screen.findByRole("link", { name: "globex" })).closest("tr")!;
    expect(within(row).getByText("Needs action")).toBeTruthy();
    expect(within(row).getByText("SecretInvalid")).toBeTruthy();
    expect(row.textContent).toContain("KafkaReady: no key");
    expect(row.textContent).toContain("Next step: add it");
    expect(screen.getByText("kubectl get mt -A -o wide")).toBeTruthy();
    await userEvent.type(screen.getByRole("searchbox", { name: "Find" }), "acme.example");
    await waitFor(() => expect(screen.queryByRole("link", { name: "globex" })).toBeNull());
    expect(screen.getByRole("link", { name: "acme" })).toBeTruthy();
});

test("what others change is shown without a reload, and it is said when it does not come", async () => {
    await opened();
    const row = (await screen.findByRole("link", { name: "globex" })).closest("tr")!;
    expect(await screen.findByText(/^Live, as of/)).toBeTruthy();
    server.change("messengertenants", "MODIFIED", tenant("globex"));
    await waitFor(() => expect(row.textContent).toContain("AllReady"));
    server.change("messengertenants", "ADDED", tenant("hooli"));
    expect(await screen.findByRole("link", { name: "hooli" })).toBeTruthy();
    server.isDown = true;
    act(() => server.cut());
    const sign = await screen.findByText(/^Changes do not come by themselves/);
    expect(sign.getAttribute("role")).toBe("status");
    expect(screen.getByRole("link", { name: "hooli" })).toBeTruthy();
    server.isDown = false;
    expect(await screen.findByText(/^Live, as of/)).toBeTruthy();
    expect(screen.queryByText(/^Changes do not come by themselves/)).toBeNull();
});

test("a user with rights in one namespace sees that one, and is shown why there is no more", async () => {
    server.namespaces = ["acme"];
    render(<App texts={await Texts.load([])} />);
    await userEvent.type(screen.getByLabelText("Token"), TOKEN);
    await userEvent.type(screen.getByLabelText("Namespaces"), "acme globex");
    await userEvent.click(screen.getByRole("button", { name: "Sign in" }));
    await screen.findByRole("link", { name: "acme" });
    expect(screen.queryByRole("link", { name: "globex" })).toBeNull();
    expect((await screen.findByRole("alert")).textContent).toContain("You may not do this");
    goTo("#/cells");
    expect((await screen.findByText(/posthouse-cell-viewer/)).textContent).toContain("You may not see cells");
    goTo("#/tenant/globex/globex");
    await screen.findByRole("heading", { name: "globex/globex" });
    expect((await screen.findByRole("alert")).textContent).toContain("You may not do this");
    expect(screen.queryByRole("button", { name: "Delete" })).toBeNull();
    expect(server.calls.every(({ method }) => method === "GET" || method === "POST")).toBe(true);
});

test("who may only look has no button that would be refused", async () => {
    server.mayWrite = false;
    await atTenant();
    await waitFor(() =>
        expect(screen.getByRole("button", { name: "Delete" })).toHaveProperty("disabled", true),
    );
    expect(screen.getByRole("button", { name: "Pause" })).toHaveProperty("disabled", true);
    expect(screen.getByRole("button", { name: "Edit" })).toHaveProperty("disabled", true);
    expect(screen.getByText(/You may not change tenants in namespace acme/)).toBeTruthy();
});

test("a tenant shows what runs of it and what it takes", async () => {
    server.pods = [
        {
            metadata: { name: "acme-chat-1" },
            containers: [{ name: "c", usage: { cpu: "250m", memory: "64Mi" } }],
        },
    ];
    await atTenant();
    const row = (await screen.findByRole("rowheader", { name: "acme-chat" })).closest("tr")!;
    expect(row.textContent).toContain("2 / 2");
    expect(row.textContent).toContain("0.2 cores, 64 MiB");
    expect(await screen.findByText("0.25 cores, 64 MiB")).toBeTruthy();
    expect(screen.getByText(/kubectl top pods -n acme/)).toBeTruthy();
});

/** Lets a tenant have objectives. */
function withObjectives(): void {
    const objective = (name: string, budgetRemainingPercent: number, burning = false) => {
        return { name, target: 0.995, budgetRemainingPercent, burning };
    };
    server.tenants[0]!.status!.objectives = [
        objective("commands", 75),
        objective("delivery", 40, true),
        objective("ours", -20),
    ];
}

test("objectives are shown with what is left of each, the worst first, and with the next step", async () => {
    withObjectives();
    await opened();
    const inList = (await screen.findByRole("link", { name: "acme" })).closest("tr")!;
    expect(inList.textContent).toContain(
        "Objectives that need action: Messages reach members in time and ours",
    );
    goTo("#/tenant/acme/acme");
    const panel = within(await screen.findByRole("region", { name: "Objectives" }));
    expect(panel.getByRole("status").textContent).toBe("2 objectives need action.");
    const rows = panel.getAllByRole("row").slice(1);
    expect(rows.map((row) => within(row).getByRole("rowheader").textContent)).toEqual([
        "ours",
        "Messages reach members in time",
        "Commands of clients are carried out",
    ]);
    const [missed, burning, met] = rows.map(({ textContent }) => textContent);
    expect(missed).toContain("-20%");
    expect(missed).toContain("Stop releases to its cell");
    expect(burning).toContain("Burning");
    expect(burning).toContain("Messages are behind");
    expect(met).toContain("99.5%");
    expect(met).not.toContain("docs/runbook.md");
});

test("without objectives it is said why, and what would change that", async () => {
    await atTenant();
    const panel = within(await screen.findByRole("region", { name: "Objectives" }));
    expect(panel.getByText(/cell local names no Prometheus.*spec.monitoring.prometheus/)).toBeTruthy();
    const named = cell("local", 4, 5);
    named.spec.monitoring = { prometheus: { url: "http://prometheus:9090" } };
    const message = "Prometheus at http://prometheus:9090 has no objectives; load the rules";
    named.status!.conditions = [{ ...condition("ObjectivesKnown", "False", "RulesMissing"), message }];
    server.change("messengercells", "MODIFIED", named);
    expect(await panel.findByText("load the rules")).toBeTruthy();
    named.status!.conditions = [condition("ObjectivesKnown", "True", "Answered")];
    server.change("messengercells", "MODIFIED", named);
    expect(await panel.findByText(/has counted nothing of it/)).toBeTruthy();
});

test("a cell says how its tenants are watched over, and what to do where they are not", async () => {
    const message = "the API server knows no PodMonitor; install the CRDs";
    server.cells[0]!.spec.monitoring = { podMonitors: {} };
    server.cells[0]!.status!.conditions!.push({ ...condition("PodsScraped", "False", "KindUnknown"), message });
    await opened();
    await screen.findByRole("link", { name: "acme" });
    goTo("#/cells");
    const panel = within(await screen.findByRole("region", { name: "local" }));
    expect(panel.getByText("PodsScraped").nextElementSibling?.textContent).toContain("KindUnknown");
    expect(panel.getByText("PodsScraped").nextElementSibling?.textContent).toContain(
        "Next step: install the CRDs",
    );
    expect(panel.getByText("ObjectivesKnown").nextElementSibling?.textContent).toContain("names no Prometheus");
});

test("where pods are not measured, that is said, and is no fault", async () => {
    await atTenant();
    expect(await screen.findByText(/does not measure pods/)).toBeTruthy();
    expect(screen.queryByRole("alert")).toBeNull();
});

test("an edit is planned by a dry run, shown as a difference, and then applied", async () => {
    server.onApply = (before, text) => {
        before.spec.topology = text.includes("topology: Compact") ? "Compact" : "Distributed";
        return before;
    };
    await atTenant();
    await userEvent.click(screen.getByRole("button", { name: "Edit" }));
    const field = screen.getByLabelText<HTMLTextAreaElement>("Manifest, as YAML");
    expect(field.value).toContain("kind: MessengerTenant");
    expect(screen.getByRole("button", { name: "Apply" })).toHaveProperty("disabled", true);
    await userEvent.click(field);
    await userEvent.paste("  topology: Compact\n");
    await userEvent.click(screen.getByRole("button", { name: "Show the plan" }));
    const plan = within(await screen.findByRole("region", { name: "Plan" }));
    expect(plan.getByText(/Nothing was changed/)).toBeTruthy();
    expect(server.of("PATCH").at(-1)!.query.get("dryRun")).toBe("All");
    expect(server.tenants[0]!.spec.topology).toBeUndefined();
    await userEvent.click(screen.getByRole("button", { name: "Apply" }));
    expect(await screen.findAllByText(/^Applied\./)).toBeTruthy();
    expect(server.tenants[0]!.spec.topology).toBe("Compact");
});

test("a conflict names the fields and their owner, and offers to take them over", async () => {
    server.owner = "argocd";
    await atTenant();
    await userEvent.click(screen.getByRole("button", { name: "Edit" }));
    await userEvent.click(screen.getByRole("button", { name: "Show the plan" }));
    const alert = await screen.findByRole("alert");
    expect(alert.textContent).toContain(".spec.deletionPolicy");
    expect(alert.textContent).toContain("argocd");
    await userEvent.click(screen.getByRole("checkbox", { name: "Take these fields over" }));
    await userEvent.click(screen.getByRole("button", { name: "Show the plan" }));
    expect(await screen.findByText(/Nothing would change/)).toBeTruthy();
    expect(server.of("PATCH").at(-1)!.query.get("force")).toBe("true");
});

test("a pause says what it does, and the command that does the same", async () => {
    await atTenant();
    await userEvent.click(screen.getByRole("button", { name: "Pause" }));
    const dialog = await screen.findByRole("dialog", { name: "Pause: acme/acme" });
    expect(dialog.textContent).toContain("writes nothing");
    expect(dialog.textContent).toContain(`-p '{"spec":{"paused":true}}'`);
    await userEvent.click(within(dialog).getByRole("button", { name: "Pause" }));
    expect(await screen.findByRole("button", { name: "Resume" })).toBeTruthy();
    expect(server.tenants[0]!.spec.paused).toBe(true);
});

test.each([
    ["Retain", "The data stays", "Delete and keep the data"],
    ["Delete", "Nothing brings it back", "Delete for good"],
] as const)("a deletion with %s spells out what becomes of the data", async (policy, consequence, button) => {
    server.tenants[0]!.spec.deletionPolicy = policy;
    await atTenant();
    await userEvent.click(screen.getByRole("button", { name: "Delete" }));
    const dialog = await screen.findByRole("dialog", { name: "Delete acme/acme" });
    expect(dialog.textContent).toContain(consequence);
    for (const part of [
        "acme.example",
        "acme.message.send",
        "mt_acme",
        "postgres",
        "kubectl delete mt acme -n acme",
    ])
        expect(dialog.textContent).toContain(part);
    const confirm = within(dialog).getByRole("button", { name: button });
    expect(confirm).toHaveProperty("disabled", true);
    await userEvent.type(within(dialog).getByLabelText("Type acme to confirm"), "acm");
    expect(confirm).toHaveProperty("disabled", true);
    await userEvent.type(within(dialog).getByLabelText("Type acme to confirm"), "e");
    await userEvent.click(confirm);
    await waitFor(() => expect(screen.queryByRole("dialog")).toBeNull());
    expect(server.tenants.map(({ metadata }) => metadata.name)).toEqual(["globex"]);
    expect((await screen.findByRole("alert")).textContent).toContain("does not exist");
});

test("the room of a cell is a number, and what is left behind there is named", async () => {
    server.cells[0]!.status!.leftovers = [
        { tenantId: "old", namespace: "team", name: "it", deletionPolicy: "Delete", backends: ["kafka", "s3"] },
    ];
    await opened();
    await screen.findByRole("link", { name: "acme" });
    goTo("#/cells");
    const panel = within(await screen.findByRole("region", { name: "local" }));
    expect(panel.getByText(/4 of 5 \(room for 1\)/)).toBeTruthy();
    expect(panel.getByText(/was team\/it, policy Delete.*kafka and s3/)).toBeTruthy();
    expect(panel.getByText("acme/acme")).toBeTruthy();
    expect(panel.getByText(/kubectl describe mcell local/)).toBeTruthy();
});

test("a new tenant begins with an example, is planned, and is shown once it is applied", async () => {
    await opened();
    await userEvent.click(await screen.findByRole("link", { name: "New tenant" }));
    await screen.findByRole("heading", { name: "New tenant" });
    const write = screen.getByRole("button", { name: "Write the manifest" });
    expect(write).toHaveProperty("disabled", true);
    await userEvent.type(screen.getByLabelText("Namespace"), "hooli");
    await userEvent.type(screen.getByLabelText("Name"), "hooli");
    expect(screen.getByLabelText<HTMLSelectElement>("Cell").value).toBe("local");
    await userEvent.selectOptions(screen.getByLabelText("Begin with"), "compact");
    await userEvent.click(write);
    const field = await screen.findByLabelText<HTMLTextAreaElement>("Manifest, as YAML");
    expect(field.value).toContain("topology: Compact");
    expect(screen.getByText(/kubectl create namespace hooli/)).toBeTruthy();
    await userEvent.click(screen.getByRole("button", { name: "Show the plan" }));
    await screen.findByRole("region", { name: "Plan" });
    expect(server.tenants).toHaveLength(2);
    await userEvent.click(screen.getByRole("button", { name: "Apply" }));
    await screen.findByRole("heading", { name: "hooli/hooli" });
    expect(server.tenants).toHaveLength(3);
    expect(location.hash).toBe("#/tenant/hooli/hooli");
});

test("a cell is edited with a plan, and who may not reads which role lets them", async () => {
    server.onApplyCell = (before, text) => {
        before.spec.routing.domain = /domain: (\S+)/.exec(text)![1]!;
        return before;
    };
    await opened();
    await screen.findByRole("link", { name: "acme" });
    goTo("#/cells");
    await userEvent.click(await screen.findByRole("button", { name: "Edit local" }));
    const field = screen.getByLabelText<HTMLTextAreaElement>("Manifest, as YAML");
    expect(field.value).toContain("kind: MessengerCell");
    await userEvent.clear(field);
    await userEvent.paste("spec:\n  routing:\n    domain: other.example\n");
    await userEvent.click(screen.getByRole("button", { name: "Show the plan" }));
    await userEvent.click(await screen.findByRole("button", { name: "Apply" }));
    expect((await screen.findAllByText("other.example")).length).toBeGreaterThan(0);
    expect(server.cells[0]!.spec.routing.domain).toBe("other.example");
    goTo("#/");
    server.mayWrite = false;
    goTo("#/cells");
    await userEvent.click(await screen.findByRole("button", { name: "Close" }));
    const edit = await screen.findByRole("button", { name: "Edit local" });
    await waitFor(() => expect(edit).toHaveProperty("disabled", true));
    expect(screen.getByText(/posthouse-cell-editor/)).toBeTruthy();
});

test("the right to change cells is asked for once, however many cells there are", async () => {
    server.cells = ["eu", "local", "us"].map((name) => cell(name, 1, 5));
    await opened();
    await screen.findByRole("link", { name: "acme" });
    goTo("#/cells");
    await screen.findByRole("button", { name: "Edit us" });
    const reviews = () => server.calls.filter(({ path }) => path.endsWith("/selfsubjectaccessreviews"));
    await waitFor(() => expect(reviews()).toHaveLength(1));
});

test("what can be no name is refused where it is written, and why", async () => {
    // The user sees no cells, and names one.
    server.namespaces = [];
    await opened();
    await userEvent.click(await screen.findByRole("link", { name: "New tenant" }));
    const write = await screen.findByRole("button", { name: "Write the manifest" });
    await userEvent.type(screen.getByLabelText("Namespace"), "hooli");
    await userEvent.type(screen.getByLabelText("Name"), "hooli");
    const field = screen.getByLabelText("Cell");
    await userEvent.type(field, "EU");
    expect(screen.getByRole("alert").textContent).toContain("A cell has lower-case letters");
    expect(field.getAttribute("aria-invalid")).toBe("true");
    expect(write).toHaveProperty("disabled", true);
    await userEvent.clear(field);
    await userEvent.type(field, "eu.west");
    expect(screen.queryByRole("alert")).toBeNull();
    expect(write).toHaveProperty("disabled", false);
});

test("usage is of each tenant and of all, by who owns the pods", async () => {
    const labelled = <T extends { metadata: object }>(of: T, tenant: string): T => ({
        ...of,
        metadata: { ...of.metadata, labels: { "messenger.posthouse.dev/tenant": tenant } },
    });
    server.deployments = [
        labelled(deployment("acme-chat", 2), "acme"),
        labelled(deployment("globex-chat", 1), "globex"),
    ];
    const container = { name: "c", usage: { cpu: "250m", memory: "64Mi" } };
    server.pods = [labelled({ metadata: { name: "p" }, containers: [container] }, "acme")];
    await opened();
    await userEvent.click(await screen.findByRole("link", { name: "Usage" }));
    const row = async (name: string) => within((await screen.findByRole("rowheader", { name })).closest("tr")!);
    await waitFor(async () => expect((await row("acme")).getByText("2 / 2")).toBeTruthy());
    expect((await row("acme")).getByText("0.2 cores, 64 MiB")).toBeTruthy();
    expect((await row("acme")).getByText("0.25 cores, 64 MiB")).toBeTruthy();
    expect((await row("globex")).getByText("1 / 1")).toBeTruthy();
    expect((await row("Together")).getByText("0.3 cores, 96 MiB")).toBeTruthy();
    expect(screen.queryByRole("alert")).toBeNull();
    expect(screen.getByText(/kubectl top pods -A/)).toBeTruthy();
});

test("what users do and store is shown where it is known, and said to be unknown elsewhere", async () => {
    const busy = tenant("acme");
    busy.spec.media = { quotaBytes: 4 * 2 ** 30 };
    server.tenants = [busy, tenant("globex")];
    await opened();
    await userEvent.click(await screen.findByRole("link", { name: "Usage" }));
    const row = async (name: string) => within((await screen.findByRole("rowheader", { name })).closest("tr")!);
    expect((await row("acme")).getByText("Not known, of 4 GiB")).toBeTruthy();
    expect((await row("Together")).getAllByText("Not known")).toHaveLength(2);
    // It comes by itself.
    const usage = { connections: 1200, messagesPerHour: 0, mediaBytes: 2 ** 30 };
    server.change("messengertenants", "MODIFIED", { ...busy, status: { ...busy.status, usage } });
    expect(await (await row("acme")).findByText("about 1,200")).toBeTruthy();
    expect((await row("acme")).getByText("about 0")).toBeTruthy();
    expect((await row("acme")).getByRole("meter").textContent).toBe("about 1 GiB of 4 GiB");
    expect((await row("globex")).getAllByText("Not known")).toHaveLength(2);
    expect((await row("globex")).getByText("Not known, of 10 GiB")).toBeTruthy();
    expect((await row("Together")).getByText("about 1,200")).toBeTruthy();
    expect(screen.getByText(/spec.monitoring.prometheus/)).toBeTruthy();
    goTo("#/tenant/acme/acme");
    const panel = within(await screen.findByRole("region", { name: "Usage" }));
    expect(panel.getByText("about 1,200")).toBeTruthy();
    expect(panel.getByText("Users").nextElementSibling?.textContent).toContain("Not known here");
});

test("a session that ends asks for a token and keeps what was written", async () => {
    await atTenant();
    await userEvent.click(screen.getByRole("button", { name: "Edit" }));
    await userEvent.click(screen.getByLabelText("Manifest, as YAML"));
    await userEvent.paste("# mine\n");
    server.takesToken = false;
    await userEvent.click(screen.getByRole("button", { name: "Refresh" }));
    await screen.findByText(/Sign in with a new one/);
    server.takesToken = true;
    await userEvent.type(screen.getByLabelText("Token"), TOKEN);
    await userEvent.click(screen.getByRole("button", { name: "Sign in" }));
    await waitFor(() => expect(screen.queryByLabelText("Token")).toBeNull());
    expect(screen.getByLabelText<HTMLTextAreaElement>("Manifest, as YAML").value).toContain("# mine");
});

test("an edit is still there after a look at another screen", async () => {
    await atTenant();
    await userEvent.click(screen.getByRole("button", { name: "Edit" }));
    await userEvent.click(screen.getByLabelText("Manifest, as YAML"));
    await userEvent.paste("# mine\n");
    goTo("#/cells");
    await screen.findByRole("heading", { name: "Cells" });
    goTo("#/tenant/acme/acme");
    expect((await screen.findByLabelText<HTMLTextAreaElement>("Manifest, as YAML")).value).toContain("# mine");
});

test("after signing out the page knows no token and no tenant", async () => {
    await opened();
    await screen.findByRole("link", { name: "acme" });
    await userEvent.click(screen.getByRole("button", { name: "Sign out" }));
    expect(await screen.findByLabelText("Token")).toHaveProperty("value", "");
    expect(document.body.textContent).not.toContain("acme");
});

test("the page speaks the language of the browser", async () => {
    await opened(TOKEN, "ru");
    const row = (await screen.findByRole("link", { name: "globex" })).closest("tr")!;
    expect(within(row).getByText("Нужно действие")).toBeTruthy();
    expect(document.documentElement.lang).toBe("ru");
});

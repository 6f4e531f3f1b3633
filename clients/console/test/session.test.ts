// A session and an edit over the calls of the page, without components.
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Kubernetes, paths, Refusal, Unreachable } from "../src/api";
import { CellView } from "../src/state/cell-view";
import { Changed, Edit, Exists } from "../src/state/edit";
import { EXAMPLE_NAMES, named, NewTenant } from "../src/state/new-tenant";
import { OtherUser, remembered, Session } from "../src/state/session";
import { PolicyChanged, TenantView } from "../src/state/tenant-view";
import { cell, deployment, FakeKubernetes, tenant, TOKEN } from "./kubernetes";

let server: FakeKubernetes;

beforeEach(() => {
    server = new FakeKubernetes();
    server.tenants = [tenant("globex"), tenant("acme")];
    server.cells = [cell("local", 2, 5)];
    server.install();
});

let stops: Array<() => void> = [];

afterEach(() => {
    for (const stop of stops) stop();
    stops = [];
});

/** What comes by itself comes soon, also on a busy machine. */
const SOON = { timeout: 15_000 };

/** Returns a session whose lists are followed. */
async function followed(named: readonly string[] = []): Promise<Session> {
    const session = await Session.open(TOKEN, named);
    stops.push(session.start());
    await vi.waitFor(() => expect(session.isFollowed).toBe(true), SOON);
    return session;
}

const topologies = ({ tenants }: Session) =>
    tenants.value?.map(({ metadata, spec }) => [metadata.name, spec.topology]);

/** Lets another user change the topology of a tenant. */
function changeTopology(name: string, topology: string): void {
    const one = tenant(name);
    server.change("messengertenants", "MODIFIED", { ...one, spec: { ...one.spec, topology } });
}

/** Begins reads whose answers are of now and come once the returned function is called, which resolves when they were taken. */
async function lateReads(...reads: Array<() => Promise<void>>): Promise<() => Promise<unknown>> {
    const before = server.of("GET").length;
    let release: () => void = () => undefined;
    const held = new Promise<void>((resolve) => (release = resolve));
    server.holds = ({ method }) => (method === "GET" ? held : undefined);
    const all = Promise.all(reads.map((read) => read()));
    await vi.waitFor(() => expect(server.of("GET").length).toBeGreaterThan(before + reads.length));
    server.holds = () => undefined;
    return () => {
        release();
        return all;
    };
}

const names = ({ tenants }: Session) => tenants.value?.map(({ metadata }) => metadata.name);

test("who may list all sees all, in order", async () => {
    const session = await Session.open(TOKEN, ["acme"]);
    expect(session.namespaces).toBeUndefined();
    expect(names(session)).toEqual(["acme", "globex"]);
    expect(session.cells.value).toHaveLength(1);
});

test("a list comes in parts, and no part is missing", async () => {
    server.pageSize = 2;
    server.tenants = Array.from({ length: 5 }, (_, at) => tenant(`t${at}`));
    expect(names(await Session.open(TOKEN, []))).toEqual(["t0", "t1", "t2", "t3", "t4"]);
});

test("a user of one namespace sees its tenants, and what is refused", async () => {
    server.namespaces = ["acme"];
    const session = await Session.open(TOKEN, ["acme", "globex"]);
    expect(names(session)).toEqual(["acme"]);
    expect([...session.refused.keys()]).toEqual(["globex"]);
    expect(session.cells.error).toBeInstanceOf(Refusal);
    expect(session.cells.value).toBeUndefined();
    await session.remove("globex");
    expect([...session.refused.keys()]).toEqual([]);
    expect(remembered()).toEqual(["acme"]);
});

test("a server that fails is not one where the user has few rights", async () => {
    server.failsLists = true;
    await expect(Session.open(TOKEN, ["acme"])).rejects.toThrow("etcd is away");
});

test("the namespace of a ServiceAccount is looked at without being named", async () => {
    server.namespaces = ["acme"];
    server.username = "system:serviceaccount:acme:deployer";
    const session = await Session.open(TOKEN, []);
    expect(session.namespaces).toEqual(["acme"]);
    expect(names(session)).toEqual(["acme"]);
});

test("a token is in the header of each call, and nowhere in the browser", async () => {
    await Session.open(TOKEN, []);
    expect(new Set(server.calls.map(({ token }) => token))).toEqual(new Set([`Bearer ${TOKEN}`]));
    expect(JSON.stringify({ ...localStorage, ...sessionStorage })).not.toContain(TOKEN);
    expect(document.cookie).toBe("");
});

test("a token that is not taken any more ends the session, and another one of the user goes on with it", async () => {
    const session = await Session.open(TOKEN, []);
    server.takesToken = false;
    await session.refresh();
    expect(session.hasEnded).toBe(true);
    await expect(session.renew(TOKEN)).rejects.toThrow(Refusal);
    server.takesToken = true;
    server.username = "bob";
    await expect(session.renew(TOKEN)).rejects.toThrow(OtherUser);
    server.username = "ann";
    await session.renew(TOKEN);
    expect(session.hasEnded).toBe(false);
    expect(names(session)).toEqual(["acme", "globex"]);
});

test("what was seen stays while nothing answers, and goes when it is refused", async () => {
    const session = await Session.open(TOKEN, []);
    server.isDown = true;
    await session.refresh();
    expect(session.tenants.error).toBeInstanceOf(Unreachable);
    expect(names(session)).toEqual(["acme", "globex"]);
    server.isDown = false;
    server.namespaces = ["acme"];
    await session.refresh();
    expect(names(session)).toBeUndefined();
});

test("an answer that is none of Kubernetes is no tenant", async () => {
    vi.stubGlobal("fetch", () => Promise.resolve(new Response("<html>a proxy</html>")));
    await expect(new Kubernetes(TOKEN).list(paths.tenants())).rejects.toThrow(Unreachable);
    vi.stubGlobal("fetch", () => Promise.resolve(new Response("Bad Gateway", { status: 502 })));
    await expect(new Kubernetes(TOKEN).list(paths.tenants())).rejects.toThrow("Bad Gateway");
});

test("an answer to a token that was replaced meanwhile ends no session", async () => {
    const session = await Session.open(TOKEN, []);
    server.takesToken = false;
    const late = await lateReads(() => session.refresh());
    server.takesToken = true;
    await session.renew(TOKEN);
    await late();
    expect(session.hasEnded).toBe(false);
    expect(names(session)).toEqual(["acme", "globex"]);
});

test("what a change has made is shown at once, and no answer of before it takes its place", async () => {
    const session = await Session.open(TOKEN, []);
    const view = new TenantView(session, "acme", "acme");
    await view.refresh();
    const pausedIn = () => [
        view.tenant.value?.spec.paused,
        session.tenants.value?.find(({ metadata }) => metadata.name === "acme")?.spec.paused,
    ];
    // The periodic reads are under way, and slow.
    const late = await lateReads(
        () => session.refresh(),
        () => view.refresh(),
    );
    await view.setPaused(true);
    expect(pausedIn()).toEqual([true, true]);
    await late();
    expect(pausedIn()).toEqual([true, true]);

    const later = await lateReads(
        () => session.refresh(),
        () => view.refresh(),
    );
    await view.delete("uid-acme", "Retain");
    await later();
    expect(view.isGone).toBe(true);
    expect(names(session)).toEqual(["globex"]);
});

test("a tenant that is edited is another one in the list, too, and a new one is in it", async () => {
    const edit = await editing();
    const { session } = edit.target;
    edit.write(edit.text.replace("spec:", "spec:\n  deletionPolicy: Delete"));
    await edit.showPlan();
    const late = await lateReads(() => session.refresh());
    await edit.apply();
    await late();
    expect(session.tenants.value?.[0]?.spec.deletionPolicy).toBe("Delete");

    const { edit: creation, session: other } = await creating("hooli");
    await creation!.showPlan();
    const later = await lateReads(() => other.refresh());
    await creation!.apply();
    await later();
    expect(names(other)).toEqual(["acme", "globex", "hooli"]);
});

test("a namespace that is shown while a list is under way is in the next one", async () => {
    server.namespaces = ["acme", "globex"];
    const session = await Session.open(TOKEN, ["acme"]);
    const late = await lateReads(() => session.refresh());
    await session.add("globex");
    expect(names(session)).toEqual(["acme", "globex"]);
    await late();
    expect(names(session)).toEqual(["acme", "globex"]);
});

test("what others change comes by itself, and nothing is read for it", async () => {
    const session = await followed();
    const reads = server.of("GET").length;
    changeTopology("acme", "Compact");
    server.change("messengertenants", "ADDED", tenant("hooli"));
    server.change("messengertenants", "DELETED", tenant("globex"));
    server.change("messengercells", "MODIFIED", cell("local", 3, 5));
    const expected = [
        ["acme", "Compact"],
        ["hooli", undefined],
    ];
    await vi.waitFor(() => expect(topologies(session)).toEqual(expected), SOON);
    await vi.waitFor(() => expect(session.cells.value?.[0]?.status?.tenants).toBe(3), SOON);
    expect(server.of("GET")).toHaveLength(reads);
    expect(server.calls.filter(({ path }) => path === "/watch")).toHaveLength(1);
});

test("a stream that is cut is taken up where it was, without a gap and without a list", async () => {
    const session = await followed();
    changeTopology("acme", "Compact");
    await vi.waitFor(() => expect(topologies(session)?.[0]).toEqual(["acme", "Compact"]), SOON);
    const reads = server.of("GET").length;
    server.cut();
    changeTopology("globex", "Compact");
    server.change("messengertenants", "DELETED", tenant("acme"));
    await vi.waitFor(() => expect(topologies(session)).toEqual([["globex", "Compact"]]), SOON);
    expect(server.of("GET")).toHaveLength(reads);
    expect(session.live.isCut).toBe(false);
    const streams = server.calls.filter(({ path }) => path === "/watch");
    const again = JSON.parse(streams.at(-1)!.body) as Array<{ resourceVersion: string }>;
    expect(again.map(({ resourceVersion }) => resourceVersion)).toEqual(["2", "1"]);
});

test("where Kubernetes does not go on from a version, the list is read, and followed from there", async () => {
    const session = await followed();
    changeTopology("acme", "Compact");
    server.cut();
    server.change("messengertenants", "DELETED", tenant("globex"));
    server.oldest = server.version;
    await vi.waitFor(() => expect(topologies(session)).toEqual([["acme", "Compact"]]), SOON);
    await vi.waitFor(() => expect(session.isFollowed).toBe(true), SOON);
    changeTopology("acme", "Distributed");
    await vi.waitFor(() => expect(topologies(session)).toEqual([["acme", "Distributed"]]), SOON);
});

test("a user whose rights are taken away sees no change that comes after, and what was seen goes", async () => {
    server.namespaces = ["acme", "globex"];
    const session = await followed(["acme", "globex"]);
    server.namespaces = ["globex"];
    changeTopology("acme", "Compact");
    await vi.waitFor(() => expect(names(session)).toEqual(["globex"]), SOON);
    expect([...session.refused.keys()]).toEqual(["acme"]);
    // The other one goes on.
    changeTopology("globex", "Compact");
    await vi.waitFor(() => expect(topologies(session)).toEqual([["globex", "Compact"]]), SOON);
});

test("that changes do not come is known, and that they come again", async () => {
    const session = await followed();
    server.isDown = true;
    server.cut();
    await vi.waitFor(() => expect(session.live.isCut).toBe(true), SOON);
    expect(session.isFollowed).toBe(false);
    expect(names(session)).toEqual(["acme", "globex"]);
    server.isDown = false;
    changeTopology("acme", "Compact");
    await vi.waitFor(() => expect(session.live.isCut).toBe(false), SOON);
    await vi.waitFor(() => expect(topologies(session)?.[0]).toEqual(["acme", "Compact"]), SOON);
});

test("a token that ends while lists are followed ends the session, and the next one follows them", async () => {
    const session = await followed();
    server.takesToken = false;
    server.cut();
    await vi.waitFor(() => expect(session.hasEnded).toBe(true), SOON);
    server.takesToken = true;
    await session.renew(TOKEN);
    await vi.waitFor(() => expect(session.isFollowed).toBe(true), SOON);
});

test("a page that is closed leaves its stream", async () => {
    const session = await Session.open(TOKEN, []);
    const stop = session.start();
    await vi.waitFor(() => expect(session.isFollowed).toBe(true), SOON);
    stop();
    expect(session.isFollowed).toBe(false);
    changeTopology("acme", "Compact");
    expect(topologies(session)?.[0]).toEqual(["acme", undefined]);
});

test("a tenant that is looked at follows what happens to it and around it", async () => {
    const session = await followed();
    const view = TenantView.of(session, "acme", "acme");
    stops.push(view.start());
    await vi.waitFor(
        () => expect(view.lists.map((list) => session.live.has(list))).toEqual([true, true]),
        SOON,
    );
    changeTopology("acme", "Compact");
    await vi.waitFor(() => expect(view.tenant.value?.spec.topology).toBe("Compact"), SOON);
    const { metadata } = tenant("acme");
    const event = { metadata: { ...metadata, name: "one", uid: "one" }, reason: "Placed" };
    server.change("events", "ADDED", event);
    await vi.waitFor(() => expect(view.events.value?.map(({ reason }) => reason)).toEqual(["Placed"]), SOON);
    const chat = deployment("acme-chat", 2);
    server.change("deployments", "ADDED", { ...chat, metadata: { ...chat.metadata, namespace: "acme" } });
    await vi.waitFor(() => expect(view.deployments.value).toHaveLength(1), SOON);
    server.change("messengertenants", "DELETED", tenant("acme"));
    await vi.waitFor(() => expect(view.isGone).toBe(true), SOON);
});

async function editing(): Promise<Edit> {
    const view = new TenantView(await Session.open(TOKEN, []), "acme", "acme");
    await view.refresh();
    server.onApply = (before, text) => {
        if (text.includes("deletionPolicy: Delete")) before.spec.deletionPolicy = "Delete";
        return before;
    };
    return new Edit(view, view.tenant.value!);
}

test("a plan changes nothing, and applying it changes what it showed", async () => {
    const edit = await editing();
    edit.write(edit.text.replace("spec:", "spec:\n  deletionPolicy: Delete"));
    await edit.showPlan();
    const changed = edit.plan!.lines.filter(({ is }) => is !== "same");
    expect(changed).toEqual([{ is: "added", text: "  deletionPolicy: Delete" }]);
    expect(server.tenants.some(({ spec }) => spec.deletionPolicy === "Delete")).toBe(false);
    expect(server.of("PATCH").map(({ query }) => query.get("dryRun"))).toEqual(["All"]);
    await edit.apply();
    expect(edit.state).toBe("applied");
    expect(server.tenants.filter(({ spec }) => spec.deletionPolicy === "Delete")).toHaveLength(1);
});

test("a plan is of one text: another one needs another plan", async () => {
    const edit = await editing();
    await edit.showPlan();
    expect(edit.plan).toBeDefined();
    edit.write(`${edit.text}# more`);
    expect(edit.plan).toBeUndefined();
    await edit.apply();
    expect(server.of("PATCH").every(({ query }) => query.get("dryRun") === "All")).toBe(true);
});

test("what another user changed meanwhile is shown before anything is applied", async () => {
    const edit = await editing();
    edit.write(edit.text.replace("spec:", "spec:\n  deletionPolicy: Delete"));
    await edit.showPlan();
    server.tenants = server.tenants.map((one) => ({ ...one, spec: { ...one.spec, topology: "Compact" } }));
    await edit.apply();
    expect(edit.error).toBeInstanceOf(Changed);
    expect(server.tenants.some(({ spec }) => spec.deletionPolicy === "Delete")).toBe(false);
    expect(edit.plan?.base.manifest).toContain("topology: Compact");
    await edit.apply();
    expect(edit.state).toBe("applied");
});

test("a text that the server leaves as it is is said to be kept", async () => {
    const edit = await editing();
    edit.write(edit.text.replace("  cellRef:\n    name: local\n", ""));
    await edit.showPlan();
    expect(edit.plan?.isKept).toBe(true);
});

test("fields of others are named, and taken over only when the user says so", async () => {
    const edit = await editing();
    server.owner = "argocd";
    edit.write(edit.text.replace("spec:", "spec:\n  deletionPolicy: Delete"));
    await edit.showPlan();
    expect(edit.plan).toBeUndefined();
    expect(edit.conflicts).toEqual([{ field: ".spec.deletionPolicy", message: 'conflict with "argocd"' }]);
    edit.setTakesOver(true);
    await edit.showPlan();
    await edit.apply();
    expect(edit.state).toBe("applied");
    expect(server.of("PATCH").map(({ query }) => query.get("force"))).toEqual([null, "true", "true"]);
});

test("each example is a manifest of one tenant under the names that it is given", async () => {
    const session = await Session.open(TOKEN, []);
    for (const example of EXAMPLE_NAMES) {
        const created = new NewTenant(session);
        created.set({ example, names: { namespace: "team", name: "hooli", cell: "eu" } });
        created.begin();
        const { text } = created.edit!;
        expect(text.match(/^kind: /gm), example).toHaveLength(1);
        for (const line of ["  name: hooli", "  namespace: team", "  tenantId: hooli"])
            expect(text.split("\n"), example).toContain(line);
        expect(text, example).toMatch(/^ {2}cellRef:\n {4}name: eu$/m);
        expect(text, example).not.toMatch(/acme|wonka|initech/);
    }
});

test("a name that YAML reads as something else is quoted", () => {
    const text = named("kind: MessengerTenant\nmetadata:\n  name: a\n  namespace: a\nspec:\n  tenantId: a\n", {
        ...{ namespace: "007", name: "on", cell: "eu" },
    });
    expect(text).toContain('  name: "on"\n  namespace: "007"\n');
    expect(text).toContain('  tenantId: "on"\n');
});

async function creating(name: string): Promise<NewTenant> {
    const created = new NewTenant(await Session.open(TOKEN, []));
    expect(created.names.cell).toBe("local");
    created.set({ names: { namespace: name, name, cell: "local" } });
    created.begin();
    return created;
}

test("a tenant is planned before it is there, and created as planned", async () => {
    const { edit, session } = await creating("hooli");
    await edit!.showPlan();
    expect(edit!.plan!.base).toEqual({ uid: "", manifest: "" });
    const lines = edit!.plan!.lines.filter(({ text }) => text !== "");
    expect(lines.every(({ is }) => is === "added")).toBe(true);
    expect(lines.map(({ text }) => text)).toContain("  tenantId: hooli");
    expect(server.tenants).toHaveLength(2);
    await edit!.apply();
    expect(edit!.state).toBe("applied");
    expect(names(session)).toEqual(["acme", "globex", "hooli"]);
});

test("what is there already is not created again, and stays as it is", async () => {
    const { edit } = await creating("acme");
    await edit!.showPlan();
    expect(edit!.error).toBeInstanceOf(Exists);
    expect(server.of("PATCH")).toEqual([]);
    const { edit: other } = await creating("hooli");
    await other!.showPlan();
    server.tenants = [...server.tenants, tenant("hooli")];
    await other!.apply();
    expect(other!.error).toBeInstanceOf(Exists);
    expect(server.of("PATCH").map(({ query }) => query.get("dryRun"))).toEqual(["All"]);
});

test("names that Kubernetes has not make no manifest", async () => {
    const created = new NewTenant(await Session.open(TOKEN, []));
    for (const name of ["", "Acme", "a/b", "../x", "-a"]) {
        created.set({ names: { namespace: "team", name, cell: "local" } });
        created.begin();
        expect(created.edit, name).toBeUndefined();
        expect(created.isRefused("name"), name).toBe(name !== "");
    }
});

test("a cell is named as Kubernetes names it, and a tenant as Services are", async () => {
    const created = new NewTenant(await Session.open(TOKEN, []));
    const refused = (of: "name" | "cell", name: string) => {
        created.set({ names: { namespace: "team", name: "hooli", cell: "local", [of]: name } });
        return created.isRefused(of);
    };
    for (const [name, cell, tenant] of [
        ["eu.west-1", false, true],
        ["1st", false, true],
        ["a".repeat(41), false, true],
        ["eu-west", false, false],
        ["EU", true, true],
        ["eu_west", true, true],
        ["eu.", true, true],
        ["a".repeat(254), true, true],
    ] as const)
        expect([refused("cell", name), refused("name", name)], name).toEqual([cell, tenant]);
});

test("a cell is edited as a tenant is, by who may", async () => {
    const session = await Session.open(TOKEN, []);
    const view = CellView.of(session, "local");
    await session.readCellRights();
    expect(session.mayPatchCells).toBe(true);
    server.onApplyCell = (before, text) => {
        before.spec.capacity.tenants = Number(/tenants: (\d+)/.exec(text)![1]);
        return before;
    };
    const edit = new Edit(view, session.cells.value![0]!);
    edit.write(edit.text.replace("tenants: 5", "tenants: 9"));
    await edit.showPlan();
    expect(edit.plan!.lines.filter(({ is }) => is !== "same")).toEqual([
        { is: "removed", text: "    tenants: 5" },
        { is: "added", text: "    tenants: 9" },
    ]);
    const late = await lateReads(() => session.refresh());
    await edit.apply();
    expect(session.cells.value![0]!.spec.capacity.tenants).toBe(9);
    await late();
    expect(session.cells.value![0]!.spec.capacity.tenants).toBe(9);
    server.mayWrite = false;
    await session.readCellRights();
    expect(session.mayPatchCells).toBe(false);
});

test("a deletion is of what the user saw: this resource, with this policy", async () => {
    const view = new TenantView(await Session.open(TOKEN, []), "acme", "acme");
    await view.refresh();
    await expect(view.delete("uid-acme", "Delete")).rejects.toThrow(PolicyChanged);
    expect(server.of("DELETE")).toEqual([]);
    await expect(view.delete("uid-of-another", "Retain")).rejects.toThrow("another UID");
    await view.delete("uid-acme", "Retain");
    expect(view.isGone).toBe(true);
    expect(names(view.session)).toEqual(["globex"]);
});

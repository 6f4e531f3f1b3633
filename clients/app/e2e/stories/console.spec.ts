// The host's console in a browser, from the sides of who looks after all tenants and of a team with rights in one namespace. The console is the
// operator's binary as its chart starts it, on this machine, before the API server of the stack.
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, open, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Browser, Page } from "@playwright/test";
import { apply, hasCluster, kubectl, namespace, remove, tenant } from "./cluster";
import { freePort } from "./port";
import { expect, hasNoFindings, OUT, test as base } from "./stand";

const OPERATOR = process.env["POSTHOUSE_OPERATOR"];
/** Each has a tenant of its color on a cell that is not there: it costs nothing, and has something the matter with it. */
const [RED, BLUE] = ["stories-red", "stories-blue"] as const;
const BINDINGS = ["stories-host-tenants", "stories-host-cells"] as const;

type Access = { url: string; tokens: { host: string; team: string } };

const test = base.extend<{ host: Page; team: Page }, { access: Access }>({
    access: [
        // Playwright wants the braces.
        async ({}, use) => {
            await remakeTenants();
            const folder = await mkdtemp(join(tmpdir(), "posthouse-console-"));
            const port = await freePort();
            const log = await open(join(await made(OUT), "console.log"), "w");
            const { server, ca } = await apiServer();
            await writeFile(join(folder, "ca.crt"), ca);
            const place = ["--console-addr", `127.0.0.1:${port}`, "--api-server", server];
            const args = ["--log-format", "text", "console", ...place, "--api-ca", join(folder, "ca.crt")];
            const child = spawn(OPERATOR!, args, { stdio: ["ignore", log.fd, log.fd] });
            const url = `http://127.0.0.1:${port}`;
            await expect.poll(() => isAlive(url), { timeout: 30_000 }).toBe(true);
            const [host, team] = [await tokenOf(BLUE, "host"), await tokenOf(RED, "team")];
            await use({ url, tokens: { host, team } });
            await end(child);
            await log.close();
            await rm(folder, { recursive: true });
            await removeTenants();
        },
        { scope: "worker", timeout: 300_000 },
    ],
    host: async ({ browser, access }, use) => signedIn(browser, access, access.tokens.host, use),
    team: async ({ browser, access }, use) => signedIn(browser, access, access.tokens.team, use),
});

test.skip(!hasCluster || OPERATOR === undefined, "there is no cluster, or no binary of the operator");
// A trace would have the tokens.
test.use({ trace: "off" });

test("the sign-in of the console", async ({ page, access }) => {
    await page.goto(access.url);
    await expect(page.getByLabel("Token")).toBeVisible();
    await picture(page, "sign-in");
    await page.getByLabel("Token").fill("none-of-kubernetes");
    await page.getByRole("button", { name: "Sign in" }).click();
    await expect(page.getByRole("alert")).toContainText("Kubernetes does not take this token.");
    await picture(page, "sign-in-refused");
});

test("a team sees and changes the tenants of its namespace, and of no other", async ({ team, access }) => {
    test.slow();
    await expect(rowOf(team, "red")).toContainText("CellNotFound");
    await expect(team.getByRole("table", { name: "Tenants" }).getByRole("rowheader")).toHaveCount(1);
    await team.getByLabel("Name of the namespace").fill(BLUE);
    await team.getByRole("button", { name: "Show a namespace" }).click();
    await expect(team.getByRole("alert")).toContainText("You may not do this. Kubernetes says:");
    await expect(rowOf(team, "blue")).toHaveCount(0);
    await picture(team, "team");

    await goTo(team, `#/tenant/${BLUE}/blue`);
    await expect(team.getByRole("alert")).toContainText("You may not do this. Kubernetes says:");
    await expect(team.getByRole("region", { name: "Manifest" })).toHaveCount(0);
    await picture(team, "team-elsewhere");
    await goTo(team, "#/cells");
    await expect(team.getByText("You may not see cells")).toBeVisible();
    await picture(team, "team-cells");

    // What its buttons do not offer, its token does not do either.
    const tenants = "/k8s/apis/messenger.posthouse.dev/v1alpha1/namespaces/stories-blue/messengertenants";
    const asked = [
        { method: "GET", path: "/k8s/apis/messenger.posthouse.dev/v1alpha1/messengertenants" },
        { method: "GET", path: tenants },
        { method: "PATCH", path: `${tenants}/blue` },
        { method: "DELETE", path: `${tenants}/blue?uid=${await field(BLUE, "blue", "{.metadata.uid}")}` },
    ];
    for (const call of asked) {
        const { token, ...rest } = { token: access.tokens.team, ...call };
        const status = await team.evaluate(
            async ({ method, path, token }) => {
                const type = "application/merge-patch+json";
                const headers = { authorization: `Bearer ${token}`, "content-type": type };
                const body = method === "PATCH" ? JSON.stringify({ spec: { paused: true } }) : null;
                return (await fetch(path, { method, headers, body })).status;
            },
            { token, ...rest },
        );
        expect(status, `${call.method} ${call.path}`).toBe(403);
    }
    expect(await field(BLUE, "blue", "{.spec.paused}")).not.toBe("true");

    await goTo(team, `#/tenant/${RED}/red`);
    await pauseAndResume(team, RED, "red");
});

test("who looks after all tenants sees what is the matter, and plans an edit before it is applied", async ({
    host,
}) => {
    test.slow();
    await expect(host.getByText("In all namespaces")).toBeVisible();
    for (const name of ["red", "blue", "acme"]) await expect(rowOf(host, name)).toBeVisible();
    await picture(host, "tenants");
    await rowOf(host, "acme").getByRole("link", { name: "acme" }).click();
    await expect(host.getByRole("heading", { name: "acme/acme" })).toBeVisible();
    const conditions = host.getByRole("table", { name: "Conditions" });
    await expect(conditions.getByRole("row", { name: /^Ready True/ })).toBeVisible();
    await expect(host.getByRole("table", { name: "Services" })).toBeVisible();
    await picture(host, "tenant");
    await host.getByRole("link", { name: "Cells", exact: true }).click();
    await expect(host.getByRole("region", { name: "local", exact: true })).toBeVisible();
    await picture(host, "cells");

    await goTo(host, `#/tenant/${BLUE}/blue`);
    await expect(conditions).toContainText("MessengerCell nowhere does not exist");
    await expect(conditions).toContainText("Next step: create it");
    await picture(host, "tenant-with-a-matter");

    // An edit of what another manager owns.
    await host.getByRole("button", { name: "Edit", exact: true }).click();
    const text = host.getByLabel("Manifest, as YAML");
    const manifest = await text.inputValue();
    expect(manifest).toContain("displayName: Blue\n");
    await text.fill(manifest.replace("displayName: Blue\n", "displayName: Blue harbour\n"));
    await host.getByRole("button", { name: "Show the plan" }).click();
    await expect(host.getByRole("alert")).toContainText("Others own fields that you change");
    await picture(host, "conflict");
    await host.getByLabel("Take these fields over").check();
    await host.getByRole("button", { name: "Show the plan" }).click();
    const plan = host.getByRole("region", { name: "Plan" });
    await expect(plan.getByRole("status")).toContainText("1 added, 1 removed");
    await expect(plan).toContainText("added: + displayName: Blue harbour");
    await picture(host, "plan");
    expect(await field(BLUE, "blue", "{.spec.branding.displayName}")).toBe("Blue");
    await host.getByRole("button", { name: "Apply", exact: true }).click();
    await expect(host.getByText("Applied. The operator goes on from here").last()).toBeVisible();
    expect(await field(BLUE, "blue", "{.spec.branding.displayName}")).toBe("Blue harbour");
    const managers = await field(BLUE, "blue", "{.metadata.managedFields[*].manager}");
    expect(managers.split(" ")).toContain("posthouse-console");
    await picture(host, "applied");
    await host.getByRole("region", { name: "Manifest" }).getByRole("button", { name: "Close" }).click();

    await pauseAndResume(host, BLUE, "blue");

    await host.getByRole("button", { name: "Delete", exact: true }).click();
    const dialog = host.getByRole("dialog", { name: `Delete ${BLUE}/blue` });
    await expect(dialog).toContainText("The data stays, because the deletion policy is Retain.");
    await picture(host, "delete");
    const doIt = dialog.getByRole("button", { name: "Delete and keep the data" });
    await expect(doIt).toBeDisabled();
    await dialog.getByLabel("Type blue to confirm").fill("blue");
    await doIt.click();
    await expect(dialog).toHaveCount(0);
    await expect(host.getByRole("alert")).toContainText("It does not exist, or not any more.", {
        timeout: 90_000,
    });
    expect(await kubectl(["-n", BLUE, "get", "messengertenants", "-o", "name"])).toBe("");
});

test("what others change is shown without a reload, and so is that it does not come", async ({ host }) => {
    test.slow();
    await expect(host.getByText(/^Live, as of/)).toBeVisible();
    for (const [paused, state] of [
        [true, "Paused"],
        [false, "Needs action"],
    ] as const) {
        const patch = JSON.stringify({ spec: { paused } });
        await kubectl(["-n", RED, "patch", "messengertenant", "red", "--type", "merge", "-p", patch]);
        await expect(rowOf(host, "red")).toContainText(state);
    }
    await host.context().route("**/watch", (route) => route.abort());
    // A stream ends by its time, and the next one does not begin.
    const sign = host.getByText("Changes do not come by themselves at this moment.");
    await expect(sign).toBeVisible({ timeout: 90_000 });
    await picture(host, "cut");
    await host.context().unroute("**/watch");
    await expect(sign).toHaveCount(0, { timeout: 30_000 });
    await expect(host.getByText(/^Live, as of/)).toBeVisible();
});

/** Pauses a tenant and lets it go on, by the buttons of its page. */
async function pauseAndResume(page: Page, of: string, name: string): Promise<void> {
    for (const [verb, next, paused] of [
        ["Pause", "Resume", "true"],
        ["Resume", "Pause", "false"],
    ] as const) {
        await page.getByRole("button", { name: verb, exact: true }).click();
        const dialog = page.getByRole("dialog", { name: `${verb}: ${of}/${name}` });
        await expect(dialog).toBeVisible();
        await picture(page, verb.toLowerCase());
        await dialog.getByRole("button", { name: verb, exact: true }).click();
        await expect(dialog).toHaveCount(0);
        await expect(page.getByRole("button", { name: next, exact: true })).toBeVisible();
        expect(await field(of, name, "{.spec.paused}")).toBe(paused);
    }
}

/** Looks at a screen in both themes. */
async function picture(page: Page, name: string): Promise<void> {
    for (const colorScheme of ["light", "dark"] as const) {
        await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
        await hasNoFindings(page);
        await page.screenshot({
            path: join(OUT, "screens", `console-${name}-${colorScheme}.png`),
            fullPage: true,
        });
    }
}

function rowOf(page: Page, name: string) {
    const named = page.getByRole("rowheader", { name, exact: true });
    return page.getByRole("table", { name: "Tenants" }).getByRole("row").filter({ has: named });
}

async function goTo(page: Page, fragment: string): Promise<void> {
    await page.evaluate((fragment) => (location.hash = fragment), fragment);
}

/** Signs in with a token, in a browser of its own whose console has no error at the end. What Kubernetes refuses is an answer. */
async function signedIn(
    browser: Browser,
    { url }: Access,
    token: string,
    use: (page: Page) => Promise<void>,
): Promise<void> {
    const context = await browser.newContext();
    const page = await context.newPage();
    const errors: string[] = [];
    page.on("pageerror", (error) => errors.push(error.message));
    page.on("console", (message) => {
        const { pathname } = new URL(message.location().url || url);
        const isAnswer = pathname.startsWith("/k8s/") || pathname === "/watch";
        if (message.type() === "error" && !isAnswer) errors.push(message.text());
    });
    await page.goto(url);
    await page.getByLabel("Token").fill(token);
    await page.getByRole("button", { name: "Sign in" }).click();
    await expect(page.getByRole("heading", { name: "Tenants", level: 1 })).toBeVisible();
    await use(page);
    expect.soft(errors, "console of the browser").toEqual([]);
    await context.close();
}

async function remakeTenants(): Promise<void> {
    await removeTenants();
    const spec = (tenantId: string, displayName: string) => ({
        ...{ tenantId, cellRef: { name: "nowhere" }, deletionPolicy: "Retain" },
        branding: { displayName },
    });
    const account = (inNamespace: string, name: string) => ({
        ...{ apiVersion: "v1", kind: "ServiceAccount" },
        metadata: { namespace: inNamespace, name },
    });
    const binding = (kind: string, metadata: object, role: string, of: string, name: string) => ({
        ...{ apiVersion: "rbac.authorization.k8s.io/v1", kind, metadata },
        roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "ClusterRole", name: role },
        subjects: [{ kind: "ServiceAccount", namespace: of, name }],
    });
    const [tenants, cells] = BINDINGS;
    const editor = "posthouse-tenant-editor";
    await apply(namespace(RED), namespace(BLUE));
    await apply(
        tenant(RED, "red", spec("storiesred", "Red")),
        tenant(BLUE, "blue", spec("storiesblue", "Blue")),
        account(RED, "team"),
        account(BLUE, "host"),
        binding("RoleBinding", { namespace: RED, name: "team" }, editor, RED, "team"),
        binding("ClusterRoleBinding", { name: tenants }, editor, BLUE, "host"),
        binding("ClusterRoleBinding", { name: cells }, "posthouse-cell-viewer", BLUE, "host"),
    );
    for (const [of, name] of [
        [RED, "red"],
        [BLUE, "blue"],
    ] as const)
        await kubectl([
            "-n",
            of,
            "wait",
            "--for=condition=Ready=False",
            "messengertenant",
            name,
            "--timeout=60s",
        ]);
}

async function removeTenants(): Promise<void> {
    for (const name of [RED, BLUE]) await remove(name);
    await kubectl(["delete", "clusterrolebinding", ...BINDINGS, "--ignore-not-found"]);
}

/** Returns what a tenant's manifest has at a place. */
async function field(of: string, name: string, path: string): Promise<string> {
    return kubectl(["-n", of, "get", "messengertenant", name, "-o", `jsonpath=${path}`]);
}

async function tokenOf(of: string, account: string): Promise<string> {
    return (await kubectl(["create", "token", account, "-n", of, "--duration=1h"])).trim();
}

/** Returns where the API server is and by which certificate it is known, as kubectl knows it. */
async function apiServer(): Promise<{ server: string; ca: Buffer }> {
    type View = { clusters: Array<{ cluster: { server: string; "certificate-authority-data": string } }> };
    const view = await kubectl(["config", "view", "--minify", "--raw", "-o", "json"]);
    const { cluster } = (JSON.parse(view) as View).clusters[0]!;
    return { server: cluster.server, ca: Buffer.from(cluster["certificate-authority-data"], "base64") };
}

function isAlive(url: string): Promise<boolean> {
    return fetch(`${url}/livez`).then(
        ({ ok }) => ok,
        () => false,
    );
}

async function end(child: ChildProcess): Promise<void> {
    // One that has ended by itself, or by a signal, says so no more.
    if (child.exitCode !== null || child.signalCode !== null) return;
    const exit = once(child, "exit");
    child.kill();
    await exit;
}

async function made(folder: string): Promise<string> {
    await mkdir(folder, { recursive: true });
    return folder;
}

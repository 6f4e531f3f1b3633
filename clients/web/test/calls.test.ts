// Each call of the library is one that a service documents, with a body that it documents.
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { account, contacts, files, groups, Identity, Messenger, reports } from "@posthouse/client";

type Schema = { $ref?: string; properties?: Record<string, unknown>; required?: string[]; allOf?: Schema[] };
type Document = {
    paths: Record<string, Record<string, { requestBody?: { content: Record<string, { schema: Schema }> } }>>;
    components: { schemas: Record<string, Schema> };
};

const API = "../../docs/api/";

const documents = readdirSync(API)
    .filter((name) => name.endsWith(".openapi.json"))
    .map((name) => JSON.parse(readFileSync(`${API}${name}`, "utf8")) as Document);

const ID = "11111111-1111-4111-8111-111111111111";

/** Each function of the library that asks by REST, with all that it may be given. */
const CALLS: Array<[string, (user: Identity) => Promise<unknown>]> = [
    ["members", (user) => groups.members(user, ID)],
    ["addMembers", (user) => groups.addMembers(user, ID, [ID])],
    ["setRole", (user) => groups.setRole(user, ID, ID, "admin")],
    ["removeMember", (user) => groups.removeMember(user, ID, ID)],
    ["leave", (user) => groups.leave(user, ID)],
    ["chat", (user) => groups.chat(user, ID)],
    ["update", (user) => groups.update(user, ID, { title: "t", slow_mode_seconds: 10, avatar: "" })],
    ["remove", (user) => groups.remove(user, ID)],
    ["publicChats", (user) => groups.publicChats(user, "a & b", ID)],
    ["join", (user) => groups.join(user, ID)],
    ["invites", (user) => groups.invites(user, ID)],
    ["makeInvite", (user) => groups.makeInvite(user, ID, { max_uses: 1, expires_in_seconds: 60 })],
    ["revokeInvite", (user) => groups.revokeInvite(user, ID, ID)],
    ["invite", (user) => groups.invite(user, "code")],
    ["joinByInvite", (user) => groups.joinByInvite(user, "code")],
    ["joinRequests", (user) => groups.joinRequests(user, ID)],
    ["accept", (user) => groups.accept(user, ID, ID)],
    ["decline", (user) => groups.decline(user, ID, ID)],
    ["profile", (user) => account.profile(user)],
    ["updateProfile", (user) => account.updateProfile(user, { about: "a", status: {}, read_receipts: true })],
    ["contacts", (user) => contacts.list(user)],
    ["putContact", (user) => contacts.put(user, ID, "Captain")],
    ["removeContact", (user) => contacts.remove(user, ID)],
    ["blocks", (user) => contacts.blocked(user)],
    ["block", (user) => contacts.block(user, ID)],
    ["unblock", (user) => contacts.unblock(user, ID)],
    ["changePassword", (user) => account.changePassword(user, "one", "other")],
    ["email", (user) => account.email(user)],
    ["setEmail", (user) => account.setEmail(user, "a@example.com", "password")],
    ["deleteAccount", (user) => account.deleteAccount(user, "name", "password")],
    ["sessions", (user) => account.sessions(user)],
    ["endSession", (user) => account.endSession(user, ID)],
    ["endOtherSessions", (user) => account.endOtherSessions(user)],
    ["report", (user) => reports.report(user, { chat: ID, seq: 1, reason: "spam", comment: "c" })],
    ["own", (user) => reports.own(user)],
    ["appeal", (user) => reports.appeal(user, ID, "text")],
    ["avatar", (user) => files.avatar(user, ID)],
    ["avatars", (user) => files.avatars(user, [ID])],
    ["preview", (user) => files.preview(user, "https://a.example/")],
    ["deleteFile", (user) => files.deleteFile(user, ID)],
];

/** Returns the operation of a path, as a document has it; the path with fewer placeholders counts. */
function operation(method: string, path: string) {
    const found = documents.flatMap((document) =>
        Object.entries(document.paths)
            .filter(([template]) =>
                new RegExp(`^${template.replace(/\{\w+\}/g, "[^/]+")}$`).test(path.split("?")[0]!),
            )
            .map(([template, operations]) => ({ document, template, of: operations[method.toLowerCase()] })),
    );
    return found.sort((one, other) => one.template.split("{").length - other.template.split("{").length)[0];
}

function resolved(schema: Schema, { components }: Document): Schema {
    const target = schema.$ref ? components.schemas[schema.$ref.split("/").at(-1)!]! : schema;
    const parts = (target.allOf ?? []).map((part) => resolved(part, { components, paths: {} }));
    const all = [target, ...parts];
    return {
        properties: Object.assign({}, ...all.map(({ properties }) => properties ?? {})) as object as Record<
            string,
            unknown
        >,
        required: all.flatMap(({ required }) => required ?? []),
    };
}

for (const [name, call] of CALLS) {
    test(`${name} asks for what is documented`, async (context) => {
        const asked: Array<{ method: string; path: string; body: unknown }> = [];
        context.mock.method(globalThis, "fetch", async (url: URL, init: RequestInit) => {
            const body = init.body ? (JSON.parse(init.body as string) as unknown) : undefined;
            asked.push({ method: init.method!, path: url.pathname + url.search, body });
            return new Response(JSON.stringify({ items: [] }));
        });
        const tokens = { access_token: "a", refresh_token: "r", expires_in_seconds: 300 };
        const messenger = new Messenger("http://acme.example");
        await call(new Identity(messenger, ID, { ...tokens, refresh_expires_in_seconds: 300 }));
        assert.equal(asked.length, 1);
        const { method, path, body } = asked[0]!;
        const found = operation(method, path);
        assert.ok(found?.of, `${method} ${path} is not documented`);
        const schema = found.of.requestBody?.content["application/json"]?.schema;
        assert.equal(body !== undefined, schema !== undefined, `whether ${method} ${path} has a body`);
        if (!schema) return;
        const { properties = {}, required = [] } = resolved(schema, found.document);
        for (const field of Object.keys(body as object)) assert.ok(field in properties, `${path}: ${field}`);
        for (const field of required) assert.ok(field in (body as object), `${path} lacks ${field}`);
    });
}

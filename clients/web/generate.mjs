// Writes src/generated from the descriptions of the APIs, or compares it: `node generate.mjs generate|check`.
import { readFileSync, writeFileSync, mkdirSync } from "node:fs";

const root = new URL("../../", import.meta.url);
const out = new URL("src/generated/", import.meta.url);
const DOCUMENTS = {
    socket: "services/gateway/src/api/asyncapi.json",
    auth: "docs/api/auth.openapi.json",
    user: "docs/api/user.openapi.json",
    chat: "docs/api/chat.openapi.json",
    message: "docs/api/message.openapi.json",
    presence: "docs/api/presence.openapi.json",
};

function comment(text, indent) {
    if (!text) return "";
    const lines = text.replaceAll("*/", "*\\/").split("\n");
    if (lines.length === 1) return `${indent}/** ${lines[0]} */\n`;
    return `${indent}/**\n${lines.map((line) => `${indent} * ${line}`.trimEnd()).join("\n")}\n${indent} */\n`;
}

function union(types) {
    const distinct = [...new Set(types)];
    return distinct.length === 1 ? distinct[0] : `(${distinct.join(" | ")})`;
}

function object(schema, indent) {
    const inner = `${indent}    `;
    const required = new Set(schema.required ?? []);
    const fields = Object.entries(schema.properties ?? {}).map(([name, field]) => {
        const mark = required.has(name) ? "" : "?";
        return `${comment(field.description, inner)}${inner}${name}${mark}: ${type(field, inner)};\n`;
    });
    const open = schema.additionalProperties;
    if (open && typeof open === "object") fields.push(`${inner}[name: string]: ${type(open, inner)};\n`);
    else if (open === true || (fields.length === 0 && open !== false && !schema.properties)) {
        fields.push(`${inner}[name: string]: unknown;\n`);
    }
    return fields.length === 0 ? "Record<string, never>" : `{\n${fields.join("")}${indent}}`;
}

/** Returns the TypeScript type of a JSON schema; a keyword that narrows no type has no effect. */
function type(schema, indent = "") {
    if (schema === true || Object.keys(schema).length === 0) return "unknown";
    if (schema.$ref) return schema.$ref.split("/").at(-1);
    if (schema.allOf) return schema.allOf.map((part) => type(part, indent)).join(" & ");
    if (schema.oneOf ?? schema.anyOf)
        return union((schema.oneOf ?? schema.anyOf).map((part) => type(part, indent)));
    if (schema.enum) return union(schema.enum.map((value) => JSON.stringify(value)));
    if (Array.isArray(schema.type))
        return union(schema.type.map((one) => type({ ...schema, type: one }, indent)));
    switch (schema.type) {
        case "string":
        case "boolean":
        case "null":
            return schema.type;
        case "integer":
        case "number":
            return "number";
        case "array":
            return `Array<${type(schema.items ?? {}, indent)}>`;
        case "object":
            return object(schema, indent);
        case undefined:
            return "unknown";
        default:
            throw new Error(`no TypeScript type for the JSON type ${schema.type}`);
    }
}

function declarations(document) {
    const schemas = Object.entries(document.components?.schemas ?? {}).sort(([a], [b]) => (a < b ? -1 : 1));
    return schemas.map(
        ([name, schema]) => `${comment(schema.description, "")}export type ${name} = ${type(schema)};\n`,
    );
}

/** Returns the types of whole frames, and the close codes. */
function frames(document) {
    const { messages } = document.components;
    const payloads = Object.entries(messages).map(([name, message]) => [name, message.payload]);
    const sent = payloads.filter(([, payload]) => payload.additionalProperties === false);
    const received = payloads.filter(([, payload]) => payload.additionalProperties !== false);
    const argument = ([name, payload]) => `    ${name}: ${type(payload.properties[name])};\n`;
    const field = (fields) => [...fields].map(([name, of]) => `    ${name}?: ${of};\n`).join("");
    const results = new Map();
    const pushes = new Map();
    for (const [, payload] of received) {
        for (const [name, schema] of Object.entries(payload.properties)) {
            if (name === "result") {
                for (const [result, of] of Object.entries(schema.properties)) results.set(result, type(of));
            } else if (name !== "id") pushes.set(name, type(schema));
        }
    }
    const codes = document["x-close-codes"].map(
        (code) => `    ${code.code}: ${JSON.stringify(code.reason)},\n`,
    );
    return [
        `/** The commands of a client with their arguments. A frame has exactly one of them. */\nexport type Commands = {\n${sent.map(argument).join("")}};\n`,
        `/** The results of commands. An answer has exactly one of them. */\nexport type Outcome = {\n${field(results)}};\n`,
        `/** A frame of the server: an answer (\`id\` with \`result\` or \`error\`) or a push. */\nexport type ServerFrame = {\n    id?: RequestId;\n    result?: Outcome;\n${field(pushes)}};\n`,
        `/** The close codes of the server and their reasons. */\nexport const CLOSE_CODES = {\n${codes.join("")}} as const;\n`,
    ];
}

const mode = process.argv[2];
if (mode !== "generate" && mode !== "check") {
    console.error("usage: node generate.mjs generate|check");
    process.exit(2);
}
mkdirSync(out, { recursive: true });
const stale = [];
for (const [name, path] of Object.entries(DOCUMENTS)) {
    const document = JSON.parse(readFileSync(new URL(path, root), "utf8"));
    const parts = [`// Derived from ${path} by \`make generate\`.\n`, ...declarations(document)];
    if (document.asyncapi) parts.push(...frames(document));
    const text = parts.join("\n");
    const file = new URL(`${name}.ts`, out);
    let committed;
    try {
        committed = readFileSync(file, "utf8");
    } catch {
        committed = undefined;
    }
    if (committed === text) continue;
    stale.push(`clients/web/src/generated/${name}.ts`);
    if (mode === "generate") {
        writeFileSync(file, text);
        console.log(`wrote ${stale.at(-1)}`);
    }
}
if (mode === "check" && stale.length > 0) {
    console.log(
        `not what the descriptions generate: ${stale.join(", ")}\nrun \`make generate\` and commit the result`,
    );
    process.exit(1);
}

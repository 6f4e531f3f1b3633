// Writes src/generated from the descriptions of the APIs, or compares it: `node generate.mjs generate|check`.
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";

const root = new URL("../../", import.meta.url);
const out = new URL("src/generated/", import.meta.url);
const DOCUMENTS = { socket: "services/gateway/src/api/asyncapi.json" };
for (const file of readdirSync(new URL("docs/api/", root)).sort()) {
    const [service, kind] = file.split(".");
    if (kind === "openapi") DOCUMENTS[service] = `docs/api/${file}`;
}

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

function list(names) {
    return `[\n${names.map((name) => `    ${JSON.stringify(name)},\n`).join("")}]`;
}

/** Returns whether a schema is of an id (or a text, by `of`), a list of them, or null beside it. */
function isOf(of, schema) {
    const types = [schema.type].flat();
    if (types.includes("array")) return isOf(of, schema.items ?? {});
    if (schema.$ref) return of === "id" && schema.$ref.endsWith("/Id");
    const isId = schema.format === "uuid";
    return types.includes("string") && isId === (of === "id");
}

/** Returns the names of the fields that are ids, or lists of them. A name is one in all schemas: an encoder knows no schema. */
function idFields(schemas) {
    const fields = Object.values(schemas).flatMap((schema) => Object.entries(schema.properties ?? {}));
    const named = (of) => new Set(fields.filter(([, field]) => isOf(of, field)).map(([name]) => name));
    const texts = named("text");
    const ids = [...named("id")].sort();
    for (const name of ids)
        if (texts.has(name)) throw new Error(`${name} is an id in one schema and a text in another`);
    return ids;
}

/** Returns the types of whole frames, subprotocols, numbers of names, and the close codes. */
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
    const subprotocols = document["x-encodings"].map(
        ({ subprotocol }) => `    ${subprotocol.split(".").at(-1)}: ${JSON.stringify(subprotocol)},\n`,
    );
    return [
        `/** The subprotocols by the encoding of their frames. */\nexport const SUBPROTOCOLS = {\n${subprotocols.join("")}} as const;\n`,
        `/** The names of fields that have numbers in CBOR, by their numbers. */\nexport const NAMES: readonly string[] = ${list(document["x-names"])};\n`,
        `/** The names of the fields that are ids, or lists of them. */\nexport const ID_FIELDS: readonly string[] = ${list(idFields(document.components.schemas))};\n`,
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

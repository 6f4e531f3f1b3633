import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { Messenger } from "@posthouse/client";
import { Dev, observed, PASSWORD, newUser, until } from "./dev.js";

let dev: Dev;
before(async () => {
    dev = await Dev.start();
});
after(() => dev.kill());

/** Starts a bot, says something to it, and checks its answer. */
async function answers(program: string, args: string[], name: string): Promise<void> {
    await new Messenger(dev.url).register(name, PASSWORD);
    const ann = await newUser(dev.url);
    const bot = await ann.find(name);
    assert.ok(bot, "the bot is found by its name");
    const chat = (await ann.createChat({ kind: "direct", members: [bot] })).chat_id;
    const a = observed(ann, chat);
    let process: ChildProcess | undefined;
    try {
        const env = {
            ...globalThis.process.env,
            POSTHOUSE_URL: dev.url,
            BOT_USER: name,
            BOT_PASSWORD: PASSWORD,
        };
        process = spawn(program, args, { env, stdio: ["ignore", "inherit", "inherit"] });
        await once(process, "spawn");
        await a.session.send(chat, "hello");
        await until("the bot answers", () => a.bodies.includes("You said: hello"));
    } finally {
        process?.kill();
        a.session.close();
    }
}

/** Returns the code of a language in the docs. */
function shown(language: string): string | undefined {
    const docs = readFileSync("../../docs/clients.md", "utf8");
    return docs.split("```" + language + "\n")[1]?.split("```")[0];
}

test("the bot of the docs in TypeScript answers", async () => {
    assert.equal(shown("typescript"), readFileSync("examples/bot.ts", "utf8"));
    const bot = new URL("../examples/bot.js", import.meta.url).pathname;
    await answers(
        process.execPath,
        [...process.execArgv.filter((arg) => arg.includes("websocket")), bot],
        "bot-ts",
    );
});

test("the bot of the docs in Rust answers", async () => {
    assert.equal(shown("rust"), readFileSync("../rust/examples/bot.rs", "utf8"));
    const bot = process.env["POSTHOUSE_RUST_BOT"];
    assert.ok(bot, "POSTHOUSE_RUST_BOT is not set: `scripts/test` sets it");
    await answers(bot, [], "bot-rust");
});

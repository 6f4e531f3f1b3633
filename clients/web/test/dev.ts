// `posthouse dev` for tests, and a way to it that can be cut.
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { createConnection, createServer, type AddressInfo, type Socket } from "node:net";
import { Messenger, Session, type Identity, type SessionOptions } from "@posthouse/client";

const LIMIT_MS = 20_000;

/** Waits for a condition. */
export async function until(what: string, condition: () => boolean | Promise<boolean>): Promise<void> {
    const end = Date.now() + LIMIT_MS;
    while (!(await condition())) {
        if (Date.now() > end) throw new Error(`not within ${LIMIT_MS} ms: ${what}`);
        await new Promise((resolve) => setTimeout(resolve, 20));
    }
}

/** A messenger in memory, in a process of its own. */
export class Dev {
    #process: ChildProcess | undefined;

    private constructor(readonly port: number) {}

    static async start(): Promise<Dev> {
        const dev = new Dev(await freePort());
        await dev.run();
        return dev;
    }

    get url(): string {
        return `http://127.0.0.1:${this.port}`;
    }

    async run(): Promise<void> {
        const binary = process.env["POSTHOUSE_COMPACT"];
        if (!binary) throw new Error("POSTHOUSE_COMPACT is not set: `scripts/test` sets it");
        const args = ["dev", "--http-addr", `127.0.0.1:${this.port}`];
        this.#process = spawn(binary, args, { stdio: ["ignore", "ignore", "ignore"] });
        await until("the messenger answers", async () => {
            const response = await fetch(`${this.url}/docs`).catch(() => undefined);
            return response?.ok === true;
        });
    }

    /** Kills it; what it had is lost. */
    async kill(): Promise<void> {
        const process = this.#process;
        this.#process = undefined;
        // One that has ended by itself says so no more.
        if (!process || process.exitCode !== null || process.signalCode !== null) return;
        const exit = once(process, "exit");
        process.kill("SIGKILL");
        await exit;
    }
}

async function freePort(): Promise<number> {
    const server = createServer().listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    server.close();
    await once(server, "close");
    return port;
}

/** A way to a messenger that a test cuts, and whose answers it holds back. */
export class Way {
    readonly #open = new Set<Socket>();
    readonly #deaf = new Set<Socket>();

    private constructor(
        readonly url: string,
        readonly close: () => void,
    ) {}

    static async to(port: number): Promise<Way> {
        const server = createServer((near) => {
            const far = createConnection(port, "127.0.0.1");
            way.#open.add(near);
            near.on("data", (data) => far.write(data));
            far.on("data", (data) => way.#deaf.has(near) || near.write(data));
            for (const [one, other] of [
                [near, far],
                [far, near],
            ] as const) {
                one.on("error", () => other.destroy());
                one.on("close", () => {
                    other.destroy();
                    way.#open.delete(near);
                    way.#deaf.delete(near);
                });
            }
        }).listen(0, "127.0.0.1");
        await once(server, "listening");
        const { port: own } = server.address() as AddressInfo;
        const way: Way = new Way(`http://127.0.0.1:${own}`, () => {
            way.cut();
            server.close();
        });
        return way;
    }

    /** Loses all that the messenger says from now on to whom is connected. */
    deafen(): void {
        for (const socket of this.#open) this.#deaf.add(socket);
    }

    cut(): void {
        for (const socket of this.#open) socket.destroy();
    }
}

const PASSWORD = "a password of a test 1";
let users = 0;

/** Registers a user and signs them in. */
export async function newUser(url: string): Promise<Identity> {
    const messenger = new Messenger(url);
    const name = `user-${Date.now().toString(36)}-${++users}`;
    await messenger.register(name, PASSWORD);
    return messenger.signIn(name, PASSWORD);
}

export { PASSWORD };

/** A session with what it has seen of one chat. */
export function observed(identity: Identity, chat: string, options: SessionOptions = {}) {
    const session = new Session(identity, options);
    const seqs: number[] = [];
    const bodies: string[] = [];
    const states: string[] = [];
    let connections = 0;
    session.on("entry", ({ message }) => {
        seqs.push(message.seq);
        bodies.push(message.body);
    });
    session.on("send", ({ state }) => states.push(state.state));
    session.on("connected", () => connections++);
    session.follow(chat);
    return { session, seqs, bodies, states, connections: () => connections };
}

// A client that shares no line with what the stories look at: it speaks the protocol as docs/api describes it. Stories send by it what arrives from
// elsewhere, and read by it what is stored. It lives in a page of its own: Node resolves no names below `localhost`, as browsers do.
import type { Browser, BrowserContext, Page } from "@playwright/test";

/** An entry as the message service stores it. */
export type Stored = { seq: number; sender: string; kind: string; body: string };

type Job = {
    username: string;
    chat: string;
    /** Texts are this and a number of so many digits. */
    text: string;
    digits: number;
    count: number;
    /** Words that some of the texts have more, at most. */
    filler?: number;
    /** Connections, and unanswered sends of each. With one of both, texts are sent in the order of their numbers. */
    lines?: number;
    inFlight?: number;
    /** From one text to the next; as fast as they go when absent. */
    everyMs?: number;
};

/** When all were taken and when all were stored, since the first one. */
type Posted = { firstSeq: number; lastSeq: number; takenSeconds: number; storedSeconds: number };

type Tool = {
    register(username: string): Promise<string>;
    directChat(of: { username: string; other: string }): Promise<string>;
    post(job: Job): Promise<Posted>;
    history(of: { username: string; chat: string }): Promise<Stored[]>;
};

type Frame = {
    id?: number;
    result?: { history?: { messages: Stored[]; head_seq: number } };
    error?: { code: string; detail: string; retry_after_ms?: number };
    stored?: { key: string; seq: number };
    ping?: object;
};
/** `ask` rejects once the connection is closed, also what was asked before. */
type Line = { ask(command: object): Promise<Frame>; close(): void };

declare global {
    interface Window {
        wire: Tool;
    }
}

/** Runs in the page: nothing of this file is there but what is below. */
function install(password: string): void {
    const pause = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

    const call = async (method: string, path: string, token?: string, body?: object) => {
        const headers: Record<string, string> = { "content-type": "application/json" };
        if (token !== undefined) headers["authorization"] = `Bearer ${token}`;
        const response = await fetch(path, { method, headers, ...(body && { body: JSON.stringify(body) }) });
        const text = await response.text();
        if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
        return JSON.parse(text) as Record<string, string>;
    };

    const signIn = async (username: string) => {
        const tokens = await call("POST", "/api/auth/sign-in", undefined, { username, password });
        return tokens["access_token"]!;
    };

    const connect = (
        token: string,
        onStored: (stored: { key: string; seq: number }) => void = () => undefined,
    ) =>
        new Promise<Line>((resolve, reject) => {
            const socket = new WebSocket(`${location.origin.replace(/^http/, "ws")}/ws`, ["posthouse.v1.json"]);
            const asked = new Map<
                number,
                { settle: (answer: Frame) => void; reject: (error: Error) => void }
            >();
            let closed: Error | undefined;
            let lastId = 0;
            const line: Line = {
                ask: (command) =>
                    new Promise((settle, reject) => {
                        // A socket that is closed takes what is sent, and nothing comes of it.
                        if (closed) return reject(closed);
                        lastId += 1;
                        asked.set(lastId, { settle, reject });
                        socket.send(JSON.stringify({ id: lastId, ...command }));
                    }),
                close: () => socket.close(),
            };
            socket.onopen = () =>
                line.ask({ connect: { token, device: crypto.randomUUID() } }).then(({ error }) => {
                    if (error) reject(new Error(`connect: ${error.code}: ${error.detail}`));
                    else resolve(line);
                }, reject);
            socket.onclose = ({ code, reason }) => {
                closed = new Error(`the connection was closed: ${code} ${reason}`);
                reject(closed);
                for (const { reject } of asked.values()) reject(closed);
                asked.clear();
            };
            socket.onmessage = ({ data }: MessageEvent<string>) => {
                // Each line gets what all of them send, and has no use for it.
                if (data.startsWith('{"message"')) return;
                const frame = JSON.parse(data) as Frame;
                if (frame.ping) return socket.send('{"pong":{}}');
                if (frame.stored) onStored(frame.stored);
                if (frame.id === undefined) return;
                asked.get(frame.id)?.settle(frame);
                asked.delete(frame.id);
            };
        });

    /** Repeats a command for as long as its refusal says that it may succeed later. */
    const ask = async (line: Line, command: object): Promise<Frame> => {
        for (;;) {
            const answer = await line.ask(command);
            if (!answer.error) return answer;
            const { code, detail, retry_after_ms } = answer.error;
            if (retry_after_ms === undefined) throw new Error(`${code}: ${detail}`);
            await pause(retry_after_ms);
        }
    };

    const post = async (job: Job): Promise<Posted> => {
        const { chat, text, digits, count, filler = 0, lines = 1, inFlight = 1, everyMs } = job;
        const token = await signIn(job.username);
        const numbers = new Map<string, number>();
        const seqs = new Map<string, number>();
        const note = ({ key, seq }: { key: string; seq: number }) => {
            if (numbers.has(key)) seqs.set(key, seq);
        };
        const open = await Promise.all(Array.from({ length: lines }, () => connect(token, note)));
        // A job may be longer than a token is good. Without another one, the connections are closed and say why.
        const renew = async () => {
            const token = await signIn(job.username);
            await Promise.all(open.map((line) => ask(line, { refresh: { token } })));
        };
        const renewal = setInterval(() => void renew().catch(() => undefined), 120_000);
        const send = (line: Line, key: string, number: number) => {
            const words = filler === 0 ? "" : " and more".repeat((number * 7) % (filler + 1));
            const body = `${text} ${String(number).padStart(digits, "0")}${words}`;
            return ask(line, { send: { chat, key, body } });
        };
        const beganMs = performance.now();
        let last = 0;
        const work = async (line: Line) => {
            while (last < count) {
                last += 1;
                const number = last;
                if (everyMs !== undefined) await pause(beganMs + number * everyMs - performance.now());
                const key = crypto.randomUUID();
                numbers.set(key, number);
                await send(line, key, number);
            }
        };
        await Promise.all(open.flatMap((line) => Array.from({ length: inFlight }, () => work(line))));
        const takenSeconds = (performance.now() - beganMs) / 1_000;
        // Where no announcement has come for ten seconds, those that lack one are sent again under their keys, which brings it.
        let known = -1;
        for (let quietMs = 0; seqs.size < count; quietMs += 50) {
            if (seqs.size > known) quietMs = 0;
            if (quietMs > 60_000) throw new Error(`${count - seqs.size} of ${count} were not stored`);
            if (quietMs > 0 && quietMs % 10_000 === 0) {
                const again = [...numbers].filter(([key]) => !seqs.has(key));
                const part = (at: number) => again.filter((_, index) => index % open.length === at);
                await Promise.all(
                    open.map(async (line, at) => {
                        for (const [key, number] of part(at)) await send(line, key, number);
                    }),
                );
            }
            known = seqs.size;
            await pause(50);
        }
        const storedSeconds = (performance.now() - beganMs) / 1_000;
        clearInterval(renewal);
        for (const line of open) line.close();
        let [firstSeq, lastSeq] = [Infinity, 0];
        for (const seq of seqs.values())
            [firstSeq, lastSeq] = [Math.min(firstSeq, seq), Math.max(lastSeq, seq)];
        return { firstSeq, lastSeq, takenSeconds, storedSeconds };
    };

    const history = async ({ username, chat }: { username: string; chat: string }) => {
        const line = await connect(await signIn(username));
        const found: Stored[] = [];
        for (let isWhole = false; !isWhole;) {
            const query = { chat, after: found.at(-1)?.seq ?? 0, limit: 500 };
            const { result } = await ask(line, { history: query });
            const { messages, head_seq } = result!.history!;
            found.push(...messages.map(({ seq, sender, kind, body }) => ({ seq, sender, kind, body })));
            isWhole = messages.length === 0 || messages.at(-1)!.seq >= head_seq;
        }
        line.close();
        return found;
    };

    window.wire = {
        post,
        history,
        register: async (username) => {
            const { user_id } = await call("POST", "/api/auth/register", undefined, { username, password });
            return user_id!;
        },
        directChat: async ({ username, other }) => {
            const token = await signIn(username);
            const found = await call("GET", `/api/users?username=${encodeURIComponent(other)}`, token);
            const [user] = found["items"] as unknown as Array<{ user_id: string }>;
            const request = { kind: "direct", members: [user!.user_id] };
            return (await call("POST", "/api/chats", token, request))["chat_id"]!;
        },
    };
}

export class Wire implements Tool {
    private constructor(
        readonly context: BrowserContext,
        readonly page: Page,
    ) {}

    /** Opens a client of the tenant whose address is the base URL. */
    static async open(browser: Browser, password: string): Promise<Wire> {
        const context = await browser.newContext();
        const page = await context.newPage();
        await page.goto("/");
        await page.evaluate(install, password);
        return new Wire(context, page);
    }

    /** Registers a user and returns their id. */
    register(username: string): Promise<string> {
        return this.page.evaluate((username) => window.wire.register(username), username);
    }

    /** Returns the id of the direct chat of two users, which is there afterwards. */
    directChat(of: { username: string; other: string }): Promise<string> {
        return this.page.evaluate((of) => window.wire.directChat(of), of);
    }

    /** Sends texts, and resolves once all are stored. */
    post(job: Job): Promise<Posted> {
        return this.page.evaluate((job) => window.wire.post(job), job);
    }

    /** Returns all entries of a chat. */
    history(of: { username: string; chat: string }): Promise<Stored[]> {
        return this.page.evaluate((of) => window.wire.history(of), of);
    }

    close(): Promise<void> {
        return this.context.close();
    }
}

// A messenger in memory and its users: those with STOMP have the public library as it is, those with JSON have clients/web.
import { Client } from "@stomp/stompjs";

const web = process.env["POSTHOUSE_WEB"];
if (!web) throw new Error("POSTHOUSE_WEB is not set: `scripts/test` sets it");
const { Messenger, groups } = await import(`${web}/src/index.js`);
const { Dev, Way, newUser, observed, until, PASSWORD } = await import(`${web}/test/dev.js`);

export { Dev, Messenger, PASSWORD, Way, groups, newUser, observed, until };

/** Where the WebSocket of a messenger is. */
export function brokerUrl(url) {
    return `${url.replace("http", "ws")}/ws`;
}

/** A client of the public library, and what it reports. It connects again by itself, with the user's token of that moment. */
export class StompUser {
    connections = 0;
    beats = 0;
    /** Frames `ERROR`, and the codes of ends. */
    errors = [];
    closes = [];
    /** What the client's own frames came to, by the destination `/replies`. */
    replies = [];
    #receipts = 0;

    /** `onConnect` runs with every connection. */
    constructor(url, identity, onConnect, options = {}) {
        this.identity = identity;
        this.device = crypto.randomUUID();
        this.client = new Client({
            brokerURL: brokerUrl(url),
            reconnectDelay: 50,
            beforeConnect: async () => {
                const passcode = await this.identity.token();
                this.client.connectHeaders = { passcode, device: this.device };
            },
            onConnect: (frame) => {
                onConnect?.(this, frame);
                this.connections += 1;
            },
            onHeartbeatReceived: () => (this.beats += 1),
            onStompError: ({ headers, body }) => this.errors.push({ headers, error: JSON.parse(body).error }),
            onWebSocketClose: ({ code }) => this.closes.push(code),
            ...options,
        });
    }

    /** Connects, and ends that when the test does. */
    async connected(test) {
        this.client.activate();
        test.after(() => this.client.deactivate({ force: true }));
        await until("the client is connected", () => this.connections > 0);
        return this;
    }

    /** Subscribes to what the client's own frames come to. */
    readReplies() {
        this.client.subscribe("/replies", ({ headers, body }) =>
            this.replies.push({ type: headers.type, ...JSON.parse(body) }),
        );
    }

    /** Has a frame sent with a receipt of its own, and waits for that. */
    async receipt(send, id = `receipt: ${++this.#receipts}`) {
        let has = false;
        this.client.watchForReceipt(id, () => (has = true));
        send(id);
        await until(`a receipt for ${id}`, () => has);
    }

    /** Sends a message; a receipt of the same key says that the log has it. */
    publish(chat, body, key = crypto.randomUUID()) {
        this.client.publish({ destination: `/chats/${chat}`, headers: { key, receipt: key }, body });
        return key;
    }

    command(command) {
        this.client.publish({ destination: "/commands", body: JSON.stringify(command) });
    }
}

/**
 * A chat as the page on STOMP says that a client follows it: subscribe first, ask for what was missed then, and apply each seq once.
 */
export class Followed {
    bodies = [];
    #lastSeq = 0;
    #later = new Map();

    constructor(chat) {
        this.chat = chat;
    }

    /** Is to be called with every connection. */
    begin(user) {
        user.client.subscribe(`/chats/${this.chat}`, ({ body }) => this.#apply(JSON.parse(body).message));
        user.client.subscribe("/replies", ({ body }) => {
            const page = JSON.parse(body).result?.history;
            if (!page) return;
            page.messages.forEach((message) => this.#apply(message));
            if (this.#lastSeq < page.head_seq) this.#ask(user);
        });
        this.#ask(user);
    }

    #ask(user) {
        user.command({ id: 1, history: { chat: this.chat, after: this.#lastSeq } });
    }

    #apply(message) {
        if (message.seq <= this.#lastSeq) return;
        this.#later.set(message.seq, message);
        for (let next; (next = this.#later.get(this.#lastSeq + 1));) {
            this.#later.delete(++this.#lastSeq);
            this.bodies.push(next.body);
        }
    }
}

/** Two users and a chat of both; the first one takes the way that is given, if one is. */
export async function pair(dev, way = dev) {
    const [ann, ben] = [await newUser(way.url), await newUser(dev.url)];
    const chat = (await ann.createChat({ kind: "direct", members: [ben.user] })).chat_id;
    return { ann, ben, chat };
}

/** A user with JSON who follows a chat until the test ends. */
export function json(test, identity, chat) {
    const seen = observed(identity, chat);
    test.after(() => seen.session.close());
    return seen;
}

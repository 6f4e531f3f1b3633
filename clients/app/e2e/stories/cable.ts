// The way of a browser to the messenger, which a story cuts. What Chromium emulates leaves a WebSocket that is open as it is.
import { once } from "node:events";
import { createConnection, createServer, type AddressInfo, type Server, type Socket } from "node:net";

export class Cable {
    readonly #ends = new Set<Socket>();
    #isCut = false;

    private constructor(
        readonly server: Server,
        readonly port: number,
    ) {}

    /** Lays a cable from a port of this machine to another one. */
    static async to(port: number): Promise<Cable> {
        const server = createServer().listen(0, "127.0.0.1");
        await once(server, "listening");
        const cable = new Cable(server, (server.address() as AddressInfo).port);
        server.on("connection", (near) => cable.#join(near, port));
        return cable;
    }

    /** Ends all connections, and those that are tried, until it is mended. */
    cut(): void {
        this.#isCut = true;
        for (const end of this.#ends) end.destroy();
    }

    mend(): void {
        this.#isCut = false;
    }

    close(): void {
        this.cut();
        this.server.close();
    }

    #join(near: Socket, port: number): void {
        if (this.#isCut) return void near.destroy();
        const far = createConnection(port, "127.0.0.1");
        for (const [one, other] of [
            [near, far],
            [far, near],
        ] as const) {
            this.#ends.add(one);
            one.pipe(other);
            one.on("error", () => other.destroy());
            one.on("close", () => {
                this.#ends.delete(one);
                other.destroy();
            });
        }
    }
}

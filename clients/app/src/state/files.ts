// Files of the user on their way to the messenger, and where files of messages are fetched.
import { CallError, files, type Identity, type media } from "@posthouse/client";
import { Source } from "../shared/source";

/** A link is not used in the last moments of its life. */
const SPARE_MS = 30_000;
/** A file of a message that was just received may be unknown for a moment. */
const FIRST_RETRY_MS = 1_000;

export type UploadState = "sending" | "ready" | "refused" | "failed";

export type Upload = {
    id: string;
    name: string;
    type: string;
    size: number;
    /** Of a picture, an address in this page. */
    preview?: string;
    state: UploadState;
    sentBytes: number;
    /** Once it is ready. */
    file?: string;
    /** Why it was refused. */
    refusal?: media.FileRefusal;
};

export class Files extends Source {
    readonly #identity: Identity;
    /** By chat, in the order in which they were added. */
    readonly #uploads = new Map<string, Upload[]>();
    readonly #blobs = new Map<string, { blob: File; stop: AbortController }>();
    readonly #links = new Map<string, { links: Promise<media.FileLinks>; goodUntilMs: number }>();

    constructor(identity: Identity) {
        super();
        this.#identity = identity;
    }

    uploadsOf(chat: string): readonly Upload[] {
        return this.#uploads.get(chat) ?? [];
    }

    add(chat: string, added: Iterable<File>): void {
        for (const blob of added) {
            const id = crypto.randomUUID();
            const { name, type, size } = blob;
            const upload: Upload = { id, name, type, size, state: "sending", sentBytes: 0 };
            if (type.startsWith("image/")) upload.preview = URL.createObjectURL(blob);
            this.#uploads.set(chat, [...this.uploadsOf(chat), upload]);
            this.#blobs.set(id, { blob, stop: new AbortController() });
            void this.#send(chat, id);
        }
        this.changed();
    }

    retry(chat: string, id: string): void {
        this.#set(chat, id, { state: "sending", sentBytes: 0 });
        void this.#send(chat, id);
    }

    /** Takes an upload away; the messenger forgets a file that no message has. */
    remove(chat: string, id: string): void {
        this.#blobs.get(id)?.stop.abort();
        this.#forget(chat, [id]);
    }

    /** Returns the ids of the files that are ready, which a message takes with it. */
    takeReady(chat: string): string[] {
        const ready = this.uploadsOf(chat).filter((upload) => upload.state === "ready");
        this.#forget(
            chat,
            ready.map(({ id }) => id),
        );
        return ready.flatMap(({ file }) => file ?? []);
    }

    /** Returns where a file is fetched, for a few minutes. */
    async links(file: string): Promise<media.FileLinks> {
        const known = this.#links.get(file);
        if (known && Date.now() < known.goodUntilMs) return known.links;
        const links = this.#fetchLinks(file);
        this.#links.set(file, { links, goodUntilMs: Infinity });
        links.then(
            ({ expires_at_ms }) => this.#links.set(file, { links, goodUntilMs: expires_at_ms - SPARE_MS }),
            () => this.#links.delete(file),
        );
        return links;
    }

    async #fetchLinks(file: string): Promise<media.FileLinks> {
        for (let attempt = 1; ; attempt += 1) {
            try {
                const found = await files.file(this.#identity, file);
                if (!found.links) throw new CallError(`the file ${file} has no links`, 404);
                return found.links;
            } catch (error) {
                if (!(error instanceof CallError) || error.status !== 404 || attempt > 1) throw error;
                await new Promise((resolve) => setTimeout(resolve, FIRST_RETRY_MS));
            }
        }
    }

    async #send(chat: string, id: string): Promise<void> {
        const kept = this.#blobs.get(id);
        if (!kept) return;
        try {
            const onProgress = (sentBytes: number) => this.#set(chat, id, { sentBytes });
            const transfer = { onProgress, signal: kept.stop.signal };
            const file = await files.upload(this.#identity, { chat }, kept.blob, kept.blob.name, transfer);
            this.#set(chat, id, { state: "ready", file: file.id, sentBytes: kept.blob.size });
        } catch (error) {
            if (kept.stop.signal.aborted) return;
            const refusal = error instanceof files.FileError ? error.file.refused : undefined;
            const isRefused =
                error instanceof files.FileError || (error instanceof CallError && !error.isTemporary);
            this.#set(chat, id, { state: isRefused ? "refused" : "failed", ...(refusal && { refusal }) });
        }
    }

    #set(chat: string, id: string, fields: Partial<Upload>): void {
        const uploads = this.uploadsOf(chat).map((upload) =>
            upload.id === id ? { ...upload, ...fields } : upload,
        );
        this.#uploads.set(chat, uploads);
        this.changed();
    }

    #forget(chat: string, ids: readonly string[]): void {
        for (const { id, preview } of this.uploadsOf(chat)) {
            if (!ids.includes(id)) continue;
            if (preview) URL.revokeObjectURL(preview);
            this.#blobs.delete(id);
        }
        this.#uploads.set(
            chat,
            this.uploadsOf(chat).filter(({ id }) => !ids.includes(id)),
        );
        this.changed();
    }
}

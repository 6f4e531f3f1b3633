// Files: uploads that go straight to the object store, and downloads by links.
import type { CreateFileRequest, File as StoredFile, FilePurpose, LinkPreview } from "./generated/media.js";
import { CallError, type Identity } from "./messenger.js";

export type { FilePurpose, StoredFile };

/** A file that the messenger did not take: `file.state` and `file.refused` say why. */
export class FileError extends Error {
    override readonly name = "FileError";

    constructor(readonly file: StoredFile) {
        const why = file.refused === undefined ? "" : ` (${file.refused})`;
        super(`the messenger did not take the file ${file.name}: it is ${file.state}${why}`);
    }
}

/** How an upload is followed and ended by a program. */
export type Transfer = {
    /** Called as bytes leave: how many of the file's have, of what is known. Only browsers know more than that a request has ended. */
    onProgress?: (sentBytes: number) => void;
    /** Ends the upload; what was uploaded stays at the store. The promise rejects with the signal's reason. */
    signal?: AbortSignal;
};

/** A request to the object store that failed; `status` is 0 when no response came. Its address is as good as a password, and not in here. */
class StoreError extends Error {
    constructor(readonly status: number) {
        super(`failed to upload a file: the store responded with ${status}`);
    }

    /** Whether another address, or another time, may do. */
    get isTemporary(): boolean {
        return this.status === 0 || this.status === 403 || this.status >= 500;
    }
}

/** Requests to the store that fail before an upload is given up. What was uploaded stays there. */
const MAX_FAILURES = 3;
/** A file is checked within this time, in which pictures are decoded and a scanner may look at it. */
const CHECK_TIMEOUT_MS = 120_000;
const FIRST_LOOK_MS = 100;
const LAST_LOOK_MS = 2_000;
/** A larger file is uploaded without a checksum: a browser computes one of what is whole in memory. */
const MAX_SUMMED_BYTES = 64 * 1024 * 1024;

/**
 * Uploads a file and returns it once it can be attached. `name` is needed where the blob has none. Throws a `FileError` when the messenger does not
 * take it, and a `CallError`. What was interrupted goes on with `resumeUpload`.
 */
export async function upload(
    identity: Identity,
    purpose: FilePurpose,
    blob: Blob,
    name: string = "name" in blob && typeof blob.name === "string" ? blob.name : "file",
    transfer: Transfer = {},
): Promise<StoredFile> {
    const body: CreateFileRequest = {
        ...{ for: purpose, name, type: blob.type.split(";")[0] || "application/octet-stream" },
        size: blob.size,
    };
    if (blob.size <= MAX_SUMMED_BYTES) body.sha256 = await sha256(blob);
    const headers = { "idempotency-key": crypto.randomUUID() };
    const file: StoredFile = await identity.call("POST", "/api/media/files", body, headers);
    return complete(identity, file, blob, transfer);
}

/** Goes on with an upload of the same bytes. */
export async function resumeUpload(
    identity: Identity,
    id: string,
    blob: Blob,
    transfer: Transfer = {},
): Promise<StoredFile> {
    return complete(identity, await file(identity, id), blob, transfer);
}

/** Returns what is known of a file that the user may read or has uploaded, with what is left to upload or where it is fetched. */
export function file(identity: Identity, id: string): Promise<StoredFile> {
    return identity.call("GET", `/api/media/files/${id}`);
}

/** Returns an address at which a file or its thumbnail is fetched for a few minutes, by this user and without a token: for `src` and `href`. */
export async function link(
    identity: Identity,
    id: string,
    variant: "content" | "thumbnail" = "content",
): Promise<URL> {
    const found = await file(identity, id);
    const path = found.links?.[variant];
    if (!path) throw new FileError(found);
    return identity.messenger.url(path);
}

/** Returns the picture of a user; `not_found` when there is none. */
export function avatar(identity: Identity, user: string): Promise<StoredFile> {
    return identity.call("GET", `/api/media/avatars/${user}`);
}

/** Returns the pictures of those of at most 100 users who have one; `owner` says whose each is. */
export async function avatars(identity: Identity, users: readonly string[]): Promise<StoredFile[]> {
    const page: { items: StoredFile[] } = await identity.call("POST", "/api/media/avatars", { users });
    return page.items;
}

/** Returns what the page behind a link says of itself; `not_found` where there is nothing to show. The messenger fetches it, and not this device. */
export function preview(identity: Identity, url: string): Promise<LinkPreview> {
    return identity.call("POST", "/api/media/previews", { url });
}

/** Deletes a file of the user that no message has. */
export async function deleteFile(identity: Identity, id: string): Promise<void> {
    await identity.call("DELETE", `/api/media/files/${id}`);
}

async function complete(
    identity: Identity,
    started: StoredFile,
    blob: Blob,
    transfer: Transfer,
): Promise<StoredFile> {
    let known = started;
    const path = `/api/media/files/${known.id}`;
    for (let failures = 0; known.state === "pending";) {
        try {
            const isWhole = await send(known, blob, transfer);
            if (isWhole && (failures += 1) > MAX_FAILURES) throw new FileError(known);
            known = await identity.call(isWhole ? "POST" : "GET", isWhole ? `${path}/complete` : path);
        } catch (error) {
            transfer.signal?.throwIfAborted();
            if (!(error instanceof StoreError)) throw error;
            failures += 1;
            if (!error.isTemporary || failures >= MAX_FAILURES)
                throw new CallError(error.message, error.status);
            // The address may have expired, and there is a new one.
            await sleep(FIRST_LOOK_MS * failures);
            known = await file(identity, known.id);
        }
    }
    const until = performance.now() + CHECK_TIMEOUT_MS;
    for (let wait = FIRST_LOOK_MS; known.state === "processing"; wait = Math.min(LAST_LOOK_MS, wait * 2)) {
        transfer.signal?.throwIfAborted();
        if (performance.now() > until) throw new CallError("the file is not checked in time", 0);
        await sleep(wait);
        known = await file(identity, known.id);
    }
    if (known.state !== "ready") throw new FileError(known);
    return known;
}

/** Uploads what is missing and has an address. Returns whether nothing else is missing. */
async function send(known: StoredFile, blob: Blob, transfer: Transfer): Promise<boolean> {
    const { upload } = known;
    if (!upload) return true;
    if ("url" in upload) {
        await put(upload.url, blob, transfer, upload.method, upload.headers);
        return true;
    }
    let sent = 0;
    let before = upload.parts.reduce((sum, part) => sum + (part.uploaded ? part.size : 0), 0);
    for (const part of upload.parts) {
        if (part.uploaded || !part.url) continue;
        const onProgress = (bytes: number) => transfer.onProgress?.(before + bytes);
        await put(part.url, blob.slice(part.offset, part.offset + part.size), { ...transfer, onProgress });
        before += part.size;
        sent += 1;
    }
    // Where no part has an address, the messenger says what is wrong.
    return sent === 0 || upload.parts.every((part) => part.uploaded || part.url);
}

async function put(
    url: string,
    body: Blob,
    transfer: Transfer,
    method = "PUT",
    headers: Record<string, string> = {},
): Promise<void> {
    transfer.signal?.throwIfAborted();
    // The blob's own type would be a header that is not signed.
    const bytes = new Blob([body], { type: "" });
    const request = { url, method, headers, bytes, transfer };
    const status = typeof XMLHttpRequest === "function" ? await byXhr(request) : await byFetch(request);
    transfer.signal?.throwIfAborted();
    if (status < 200 || status > 299) throw new StoreError(status);
    transfer.onProgress?.(body.size);
}

type Put = {
    url: string;
    method: string;
    headers: Record<string, string>;
    bytes: Blob;
    transfer: Transfer;
};

/** Returns the status of the response, and 0 when none came. */
async function byFetch({ url, method, headers, bytes, transfer }: Put): Promise<number> {
    try {
        const signal = transfer.signal ?? null;
        return (await fetch(url, { method, headers, body: bytes, credentials: "omit", signal })).status;
    } catch {
        return 0;
    }
}

/** Likewise. `fetch` does not say how far a body is. */
function byXhr({ url, method, headers, bytes, transfer }: Put): Promise<number> {
    return new Promise((resolve) => {
        const request = new XMLHttpRequest();
        request.open(method, url);
        for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
        request.upload.onprogress = ({ loaded }) => transfer.onProgress?.(loaded);
        request.onloadend = () => resolve(request.status);
        transfer.signal?.addEventListener("abort", () => request.abort(), { once: true });
        request.send(bytes);
    });
}

async function sha256(blob: Blob): Promise<string> {
    const digest = await crypto.subtle.digest("SHA-256", await blob.arrayBuffer());
    return [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

function sleep(ms: number): Promise<void> {
    return new Promise((done) => setTimeout(done, ms));
}

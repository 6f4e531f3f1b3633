// What changes of what the page shows, as it happens: one stream for all lists. A browser has six connections to the console, for all windows.
import { Source } from "../../../app/src/shared/source";
import { Refusal, type Kubernetes, type WatchEvent } from "../api";
import type { KeptList } from "../kept";

/** The console takes as many in one stream. What is beyond is read again and again. */
const MAX_LISTS = 16;
/** Lists that begin together come with one stream. */
const GATHER_MS = 50;
/** Until the next attempt, after failures in a row. */
const RETRY_MS = [500, 2_000, 5_000, 10_000] as const;
/** A stream that ends sooner has failed. By its time it ends after 50 s. */
const SHORT_MS = 5_000;
/** Until a list that was refused is asked for again: one that may be listed and not watched, or another fault. */
const FORBIDDEN_MS = 60_000;
const FAULT_MS = 5_000;

/** Who has lists that are followed. */
export type Owner = {
    readonly lists: readonly KeptList[];
    /** Events came. */
    seen(): void;
    /** A list cannot be followed from where it was, or not at all: it is to be read again, and the API server says why. */
    readAgain(): void;
};

type Stream = { lists: readonly KeptList[]; gone: Set<KeptList>; isOpen: boolean; abort: AbortController };

export class Live extends Source {
    /** Whether changes do not come. One failure is none: a stream may be cut at any time, and is taken up where it was. */
    isCut = false;
    /** When the console last said that nothing is missing. */
    asOfMs = 0;
    readonly #kubernetes: () => Kubernetes;
    readonly #owners = new Set<Owner>();
    readonly #notBeforeMs = new WeakMap<KeptList, number>();
    #isOn = false;
    #stream: Stream | undefined;
    #failures = 0;
    #looking: ReturnType<typeof setTimeout> | undefined;
    #retrying: ReturnType<typeof setTimeout> | undefined;

    constructor(kubernetes: () => Kubernetes) {
        super();
        this.#kubernetes = kubernetes;
    }

    /** Follows the lists of an owner, each from when it is read, until the returned function is called. */
    add(owner: Owner): () => void {
        this.#owners.add(owner);
        this.look();
        return () => {
            this.#owners.delete(owner);
            this.look();
        };
    }

    /** Whether changes of a list come by themselves. */
    has(list: KeptList): boolean {
        const stream = this.#stream;
        return stream?.isOpen === true && stream.lists.includes(list) && !stream.gone.has(list);
    }

    start(): void {
        this.#isOn = true;
        this.look();
    }

    stop(): void {
        this.#isOn = false;
        this.#end();
        this.changed();
    }

    /** Looks in a moment which lists can be followed: others than in the stream that there is begin another one. */
    look(): void {
        clearTimeout(this.#looking);
        this.#looking = setTimeout(() => {
            const lists = this.#ready();
            const stream = this.#stream;
            const now = stream?.lists.filter((list) => !stream.gone.has(list)) ?? [];
            const isSame = lists.length === now.length && lists.every((list) => now.includes(list));
            if (this.#isOn && !isSame) this.#begin();
        }, GATHER_MS);
    }

    #ready(): KeptList[] {
        const isReady = (list: KeptList) =>
            list.version !== undefined && (this.#notBeforeMs.get(list) ?? 0) <= Date.now();
        return [...this.#owners]
            .flatMap(({ lists }) => lists)
            .filter(isReady)
            .slice(0, MAX_LISTS);
    }

    #end(): void {
        clearTimeout(this.#retrying);
        this.#stream?.abort.abort();
        this.#stream = undefined;
    }

    #begin(): void {
        this.#end();
        const lists = this.#ready();
        if (!this.#isOn || lists.length === 0) return;
        this.#stream = { lists, gone: new Set(), isOpen: false, abort: new AbortController() };
        void this.#run(this.#stream);
    }

    async #run(stream: Stream): Promise<void> {
        const beganMs = Date.now();
        const wanted = stream.lists.map(({ wanted, version = "" }) => ({
            ...wanted,
            resourceVersion: version,
        }));
        let hasFailed = false;
        try {
            for await (const events of this.#kubernetes().watch(wanted, stream.abort)) {
                if (this.#stream !== stream) return;
                this.#take(stream, events);
            }
        } catch {
            hasFailed = true;
        }
        if (this.#stream !== stream) return;
        this.#stream = undefined;
        if (!hasFailed && Date.now() - beganMs >= SHORT_MS) {
            this.#begin();
            return;
        }
        this.#failures += 1;
        const wait = RETRY_MS[Math.min(this.#failures, RETRY_MS.length) - 1]!;
        this.#retrying = setTimeout(() => this.#begin(), wait);
        this.#setCut(this.isCut || this.#failures > 1);
    }

    #take(stream: Stream, events: readonly WatchEvent[]): void {
        // The first of it is that there is a stream. One that says more has not failed.
        if (stream.isOpen) this.#failures = 0;
        stream.isOpen = true;
        const [seen, refused] = [new Set<KeptList>(), new Set<KeptList>()];
        for (const { of, type, object } of events) {
            const list = stream.lists[of];
            if (!list) continue;
            if (type === "ERROR") {
                this.#refuse(list, object);
                refused.add(list);
                stream.gone.add(list);
            } else {
                list.see({ type, object });
                seen.add(list);
            }
        }
        for (const owner of [...this.#owners]) {
            if (owner.lists.some((list) => seen.has(list))) owner.seen();
            if (owner.lists.some((list) => refused.has(list))) owner.readAgain();
        }
        this.asOfMs = Date.now();
        this.#setCut(false);
    }

    #refuse(list: KeptList, object: unknown): void {
        const { code = 500, ...status } = (object ?? {}) as { code?: number };
        const refusal = new Refusal(code, status);
        // The API server does not know the version any more: the list is read, and followed from there.
        const wait = refusal.isExpired ? 0 : refusal.isForbidden ? FORBIDDEN_MS : FAULT_MS;
        this.#notBeforeMs.set(list, Date.now() + wait);
        list.forget();
        if (refusal.isSignedOut) this.#kubernetes().onEnded();
    }

    #setCut(isCut: boolean): void {
        this.isCut = isCut;
        this.changed();
    }
}

// Lists of the messenger as one file, which this browser puts together: each line is an object of JSON, as the API describes it.
import { Source } from "../../shared/source";
import type { Caller } from "./admin";
import { pagePath, type Filter, type Page } from "./listing";

/** What can be taken along, and where it is read. */
export const EXPORTS = {
    audit: "/api/moderation/audit",
    reports: "/api/moderation/reports",
    sanctions: "/api/moderation/sanctions",
    appeals: "/api/moderation/appeals",
    users: "/api/users",
} as const;
export type ExportKind = keyof typeof EXPORTS;

const PAGE_SIZE = 100;

export type Export = {
    kind: ExportKind;
    state: "running" | "done" | "stopped" | "failed";
    /** Lines so far. */
    count: number;
    error?: unknown;
};

export class Exports extends Source {
    /** The last one; one is made at a time. */
    current: Export | undefined;
    readonly #caller: Caller;

    constructor(caller: Caller) {
        super();
        this.#caller = caller;
    }

    /** Reads a list to its end and returns the file; nothing when it was stopped or a page did not come: half a list is no export. */
    async make(kind: ExportKind, filter: Filter = {}): Promise<Blob | undefined> {
        const run: Export = { kind, state: "running", count: 0 };
        this.current = run;
        this.changed();
        const parts: string[] = [];
        let cursor: string | null | undefined;
        try {
            do {
                const path = pagePath(EXPORTS[kind], { ...filter, limit: PAGE_SIZE }, cursor);
                const page: Page<unknown> = await this.#caller.call("GET", path);
                if (run.state !== "running") return undefined;
                parts.push(...page.items.map((item) => `${JSON.stringify(item)}\n`));
                run.count += page.items.length;
                cursor = page.next_cursor;
                this.changed();
            } while (cursor);
        } catch (error) {
            if (run.state !== "running") return undefined;
            run.state = "failed";
            run.error = error;
            this.changed();
            return undefined;
        }
        run.state = "done";
        this.changed();
        return new Blob(parts, { type: "application/jsonl" });
    }

    stop(): void {
        if (this.current?.state === "running") this.current.state = "stopped";
        this.changed();
    }
}

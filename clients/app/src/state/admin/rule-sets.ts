// Rule sets, and what each did or would have done.
import { CallError, type moderation } from "@posthouse/client";
import { Source } from "../../shared/source";
import type { Caller } from "./admin";

const PATH = "/api/moderation/rule-sets";
/** Between two looks at a run that goes on. */
const LOOK_EVERY_MS = 2_000;

export class RuleSets extends Source {
    /** The oldest first; absent until they were read. */
    sets: readonly moderation.RuleSet[] | undefined;
    readonly #caller: Caller;
    readonly #once: <T>(path: string, body: unknown) => Promise<T>;
    /** `undefined` for a set that has no run. */
    readonly #runs = new Map<string, moderation.ShadowRun | undefined>();
    readonly #figures = new Map<string, moderation.Figures>();

    constructor(caller: Caller, once: <T>(path: string, body: unknown) => Promise<T>) {
        super();
        this.#caller = caller;
        this.#once = once;
    }

    get(id: string): moderation.RuleSet | undefined {
        return this.sets?.find((set) => set.id === id);
    }

    run(id: string): moderation.ShadowRun | undefined {
        return this.#runs.get(id);
    }

    /** What a set did in the last 90 days. */
    figures(id: string): moderation.Figures | undefined {
        return this.#figures.get(id);
    }

    async load(): Promise<void> {
        const page: moderation.Page_RuleSet = await this.#caller.call("GET", PATH);
        this.sets = page.items;
        this.changed();
    }

    /** Reads what a set did, and what its last run says. */
    async look(id: string): Promise<void> {
        const before = this.#runs.get(id);
        const [figures, run] = await Promise.all([
            this.#caller.call<moderation.Figures>("GET", `${PATH}/${id}/figures`),
            this.#lastRun(id),
        ]);
        this.#figures.set(id, figures);
        // A run that was begun meanwhile is a later one.
        if (this.#runs.get(id) === before) this.#runs.set(id, run);
        this.changed();
    }

    async create(request: moderation.CreateRuleSetRequest): Promise<moderation.RuleSet> {
        const set = await this.#once<moderation.RuleSet>(PATH, request);
        this.#put(set);
        return set;
    }

    /** Begins a shadow run, which takes the place of the last one. */
    async beginRun(id: string, days: number): Promise<void> {
        this.#runs.set(id, await this.#caller.call("POST", `${PATH}/${id}/shadow`, { days }));
        this.changed();
    }

    /** Looks at a run until it has ended, or until the returned function is called. A look that fails is followed by another one. */
    follow(id: string): () => void {
        let isOver = false;
        let timer: ReturnType<typeof setTimeout>;
        const look = async () => {
            try {
                const run = await this.#lastRun(id);
                if (isOver) return;
                this.#runs.set(id, run);
                this.changed();
                if (run?.state !== "running") return;
            } catch (error) {
                if (!(error instanceof CallError)) throw error;
                if (isOver || !error.isTemporary) return;
            }
            timer = setTimeout(() => void look(), LOOK_EVERY_MS);
        };
        timer = setTimeout(() => void look(), LOOK_EVERY_MS);
        return () => {
            isOver = true;
            clearTimeout(timer);
        };
    }

    async enforce(id: string): Promise<void> {
        this.#put(await this.#caller.call("POST", `${PATH}/${id}/enforce`));
    }

    async retire(id: string): Promise<void> {
        this.#put(await this.#caller.call("POST", `${PATH}/${id}/retire`));
    }

    async remove(id: string): Promise<void> {
        await this.#caller.call("DELETE", `${PATH}/${id}`);
        this.sets = this.sets?.filter((set) => set.id !== id);
        this.changed();
    }

    async #lastRun(id: string): Promise<moderation.ShadowRun | undefined> {
        try {
            return await this.#caller.call("GET", `${PATH}/${id}/shadow`);
        } catch (error) {
            if (error instanceof CallError && error.code === "not_found") return undefined;
            throw error;
        }
    }

    #put(set: moderation.RuleSet): void {
        const others = (this.sets ?? []).filter(({ id }) => id !== set.id);
        this.sets = [...others, set].sort((one, other) => one.created_at_ms - other.created_at_ms);
        this.changed();
    }
}

// An edit of one manifest: written, planned by a dry run of the API server, and applied as it was planned.
import { Source } from "../../../app/src/shared/source";
import { Refusal } from "../api";
import { diff, type Line } from "../diff";
import { manifestOf, type Cell, type Tenant } from "../resources";
import { toYaml } from "../yaml";
import type { Session } from "./session";

/** Of what a manifest is written. */
export type Target = {
    readonly session: Session;
    readonly path: string;
    readonly kind: "tenant" | "cell";
    /** As kubectl names it, for example `mt acme -n acme`. */
    readonly resource: string;
    /** Whether applying creates it: nothing of its name may be there. */
    readonly isNew?: boolean;
    /** Reads it, and the lists that have it, after it was applied. */
    refreshAfterChange(): Promise<void>;
};

/** What applying would change, and of which resource. */
export type Plan = {
    lines: Line[];
    /** The text asks for something that the server leaves as it is. */
    isKept: boolean;
    /** What was there, by the server's count: empty where there was nothing. */
    base: { uid: string; manifest: string };
    takesOver: boolean;
};

/** The resource was changed by others while the user looked at the plan. */
export class Changed extends Error {}

/** What was to be created is there: applying would change it. */
export class Exists extends Error {}

export class Edit extends Source {
    /** What the user writes. */
    text: string;
    plan: Plan | undefined;
    error: unknown;
    state: "writing" | "planning" | "applying" | "applied" = "writing";
    /** Fields of others are taken over. */
    takesOver = false;
    /** What the edit began with. */
    #first: string;

    constructor(
        readonly target: Target,
        from: Tenant | Cell | string,
    ) {
        super();
        this.text = this.#first = typeof from === "string" ? from : toYaml(manifestOf(from));
    }

    get isBusy(): boolean {
        return this.state === "planning" || this.state === "applying";
    }

    /** The fields that others own, where that is why the plan or the edit was refused. */
    get conflicts(): Refusal["conflicts"] {
        return this.error instanceof Refusal && this.error.code === 409 ? this.error.conflicts : [];
    }

    /** Whether something was written that is not applied. */
    get isDirty(): boolean {
        return this.text !== this.#first && this.state !== "applied";
    }

    /** Takes what the user wrote. A plan is of one text. */
    write(text: string): void {
        this.text = text;
        this.#set({ state: "writing", plan: undefined, error: undefined });
    }

    setTakesOver(takesOver: boolean): void {
        this.takesOver = takesOver;
        this.#set({ state: "writing", plan: undefined });
    }

    /** Asks what applying would change. */
    async showPlan(): Promise<void> {
        if (this.isBusy) return;
        this.#set({ state: "planning", plan: undefined, error: undefined });
        try {
            this.#set({ state: "writing", plan: await this.#planned() });
        } catch (error) {
            this.#fail(error);
        }
    }

    /** Applies what was planned, if it is still the plan. */
    async apply(): Promise<void> {
        const plan = this.plan;
        if (this.isBusy || !plan) return;
        this.#set({ state: "applying", error: undefined });
        try {
            const { path, session } = this.target;
            const now = await this.#now();
            if (now.uid !== plan.base.uid || now.manifest !== plan.base.manifest) {
                this.#set({ state: "writing", plan: await this.#planned(), error: new Changed() });
                return;
            }
            const { takesOver } = plan;
            const applied = await session.kubernetes.apply<Tenant | Cell>(path, this.text, {
                isPlan: false,
                takesOver,
            });
            this.text = this.#first = toYaml(manifestOf(applied));
            this.#set({ state: "applied", plan: undefined });
            await this.target.refreshAfterChange();
        } catch (error) {
            this.#fail(error);
        }
    }

    async #planned(): Promise<Plan> {
        const { path, session } = this.target;
        const takesOver = this.takesOver;
        const base = await this.#now();
        const options = { isPlan: true, takesOver };
        const planned = await session.kubernetes.apply<Tenant | Cell>(path, this.text, options);
        const lines = diff(base.manifest, toYaml(manifestOf(planned)));
        const isChange = lines.some(({ is }) => is !== "same");
        return { lines, isKept: !isChange && this.text.trim() !== base.manifest.trim(), base, takesOver };
    }

    /** Returns what is there. */
    async #now(): Promise<Plan["base"]> {
        const { path, session, isNew } = this.target;
        try {
            const now = await session.kubernetes.get<Tenant | Cell>(path);
            if (isNew) throw new Exists();
            return { uid: now.metadata.uid, manifest: toYaml(manifestOf(now)) };
        } catch (error) {
            if (isNew && error instanceof Refusal && error.isNotFound) return { uid: "", manifest: "" };
            throw error;
        }
    }

    #fail(error: unknown): void {
        this.#set({ state: "writing", plan: undefined, error });
    }

    #set(change: Partial<Pick<Edit, "state" | "plan" | "error">>): void {
        Object.assign(this, change);
        // A field that is rendered late loses keys.
        this.changed("at once");
    }
}

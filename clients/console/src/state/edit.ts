// An edit of one manifest: written, planned by a dry run of the API server, and applied as it was planned.
import { Source } from "../../../app/src/shared/source";
import { Refusal } from "../api";
import { diff, type Line } from "../diff";
import { manifestOf, type Tenant } from "../resources";
import { toYaml } from "../yaml";
import type { TenantView } from "./tenant-view";

/** What applying would change, and of which tenant. */
export type Plan = {
    lines: Line[];
    /** The text asks for something that the server leaves as it is. */
    isKept: boolean;
    /** The manifest that was there, by the server's count. */
    base: { uid: string; manifest: string };
    takesOver: boolean;
};

/** The tenant was changed by others while the user looked at the plan. */
export class Changed extends Error {}

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
        readonly view: TenantView,
        tenant: Tenant,
    ) {
        super();
        this.text = this.#first = toYaml(manifestOf(tenant));
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
            const { path, session } = this.view;
            const now = await session.kubernetes.get<Tenant>(path);
            if (now.metadata.uid !== plan.base.uid || toYaml(manifestOf(now)) !== plan.base.manifest) {
                this.#set({ state: "writing", plan: await this.#planned(), error: new Changed() });
                return;
            }
            const { takesOver } = plan;
            const applied = await session.kubernetes.apply<Tenant>(path, this.text, {
                isPlan: false,
                takesOver,
            });
            this.text = this.#first = toYaml(manifestOf(applied));
            this.#set({ state: "applied", plan: undefined });
            await this.view.refresh();
        } catch (error) {
            this.#fail(error);
        }
    }

    async #planned(): Promise<Plan> {
        const { path, session } = this.view;
        const takesOver = this.takesOver;
        const now = await session.kubernetes.get<Tenant>(path);
        const planned = await session.kubernetes.apply<Tenant>(path, this.text, { isPlan: true, takesOver });
        const manifest = toYaml(manifestOf(now));
        const lines = diff(manifest, toYaml(manifestOf(planned)));
        const isChange = lines.some(({ is }) => is !== "same");
        const base = { uid: now.metadata.uid, manifest };
        return { lines, isKept: !isChange && this.text.trim() !== manifest.trim(), base, takesOver };
    }

    #fail(error: unknown): void {
        this.view.session.notice(error);
        this.#set({ state: "writing", plan: undefined, error });
    }

    #set(change: Partial<Pick<Edit, "state" | "plan" | "error">>): void {
        Object.assign(this, change);
        // A field that is rendered late loses keys.
        this.changed("at once");
    }
}

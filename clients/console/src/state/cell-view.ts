// One cell that the user looks at, and what they write.
import { Source } from "../../../app/src/shared/source";
import { paths } from "../api";
import type { Edit, Target } from "./edit";
import type { Session } from "./session";

/** Those of a session, by name: who comes back to a cell finds what was being written there. */
const VIEWS = new WeakMap<Session, Map<string, CellView>>();

export class CellView extends Source implements Target {
    readonly kind = "cell";
    readonly path: string;
    /** What the user writes, until it is applied and closed, or given up. */
    edit: Edit | undefined;

    /** Returns the view of a cell, the same one in a session. */
    static of(session: Session, name: string): CellView {
        const views = VIEWS.get(session) ?? new Map<string, CellView>();
        VIEWS.set(session, views);
        const view = views.get(name) ?? new CellView(session, name);
        views.set(name, view);
        return view;
    }

    constructor(
        readonly session: Session,
        readonly name: string,
    ) {
        super();
        this.path = paths.cell(name);
    }

    get resource(): string {
        return `mcell ${this.name}`;
    }

    refreshAfterChange(): Promise<void> {
        return this.session.refreshAfterChange();
    }

    setEdit(edit: Edit | undefined): void {
        this.edit = edit;
        this.changed("at once");
    }
}

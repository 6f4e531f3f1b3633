// A tenant that is not there yet: what it is called, and a manifest to begin with, which the user changes, plans and applies.
import acme from "../../../../examples/tenants/acme.yaml?raw";
import compact from "../../../../examples/tenants/compact.yaml?raw";
import production from "../../../../examples/tenants/production.yaml?raw";
import { Source } from "../../../app/src/shared/source";
import { paths } from "../api";
import { CELL_NAME, NAMESPACE_NAME, TENANT_NAME } from "../names";
import { Edit, type Target } from "./edit";
import type { Session } from "./session";

/** Manifests of the repository, which the tests apply as they are. */
const EXAMPLES = { acme, compact, production } as const;
export type Example = keyof typeof EXAMPLES;
export const EXAMPLE_NAMES = Object.keys(EXAMPLES) as Example[];

/** What the examples are to be called. */
export type Names = { namespace: string; name: string; cell: string };

/** That of a session: who comes back finds what was being written. */
const NEW = new WeakMap<Session, NewTenant>();

const RULES = { namespace: NAMESPACE_NAME, name: TENANT_NAME, cell: CELL_NAME } as const;

export class NewTenant extends Source {
    names: Names;
    example: Example = "acme";
    edit: Edit | undefined;

    static of(session: Session): NewTenant {
        const known = NEW.get(session) ?? new NewTenant(session);
        NEW.set(session, known);
        return known;
    }

    constructor(readonly session: Session) {
        super();
        const [cell] = session.cells.value ?? [];
        this.names = { namespace: session.namespaces?.[0] ?? "", name: "", cell: cell?.metadata.name ?? "" };
    }

    /** Whether each of the names may be one. What Kubernetes and the operator take beyond it, the plan says. */
    get isNamed(): boolean {
        return (Object.keys(RULES) as (keyof Names)[]).every((of) => RULES[of].test(this.names[of]));
    }

    /** Whether something is written that can be no name of this. */
    isRefused(of: keyof Names): boolean {
        return this.names[of] !== "" && !RULES[of].test(this.names[of]);
    }

    set(change: Partial<Pick<NewTenant, "names" | "example">>): void {
        Object.assign(this, change);
        // A field that is rendered late loses keys.
        this.changed("at once");
    }

    /** Writes the manifest of the example under the names. */
    begin(): void {
        if (!this.isNamed) return;
        const { session, names, example } = this;
        const { namespace, name } = names;
        const target: Target = {
            ...{ session, path: paths.tenant(namespace, name), kind: "tenant", isNew: true },
            resource: `mt ${name} -n ${namespace}`,
            refreshAfterChange: () => session.refreshAfterChange(),
        };
        this.edit = new Edit(target, named(EXAMPLES[example], names));
        this.changed("at once");
    }

    /** Gives up what is written, or goes on from what was applied. */
    end(): void {
        this.edit = undefined;
        if (NEW.get(this.session) === this) NEW.delete(this.session);
        this.changed("at once");
    }
}

/** Returns the manifest of the tenant in an example under other names. Its tenant id is its name. */
export function named(example: string, { namespace, name, cell }: Names): string {
    const manifest = example.split(/^---$/m).find((document) => /^kind: MessengerTenant$/m.test(document))!;
    const text = manifest.trim();
    const own = /^ {2}name: (\S+)$/m.exec(text)![1]!;
    return `${text
        .replace(/^ {2}name: \S+$/m, `  name: ${quoted(name)}`)
        .replace(/^ {2}namespace: \S+$/m, `  namespace: ${quoted(namespace)}`)
        .replace(/^ {2}tenantId: \S+$/m, `  tenantId: ${quoted(name)}`)
        // What the example says of its cell holds for that one.
        .replace(/^ {2}cellRef:\n(?: {4}#.*\n)*(?: {4}name: \S+)$/m, `  cellRef:\n    name: ${quoted(cell)}`)
        .replaceAll(`${own}.example`, `${name}.example`)}\n`;
}

/** A name that YAML would read as a number, or as a truth, is a text. */
function quoted(name: string): string {
    return /^[a-z]/.test(name) && !/^(true|false|null|yes|no|on|off|y|n)$/.test(name) ? name : `"${name}"`;
}

// Who did what, the newest first. Entries are never changed.
import type { moderation } from "@posthouse/client";
import { useEffect, useMemo, useState, type ReactNode } from "react";
import { go, href, usePlace } from "../../place";
import type { Filter } from "../../state/admin/listing";
import type { AdminKey } from "../../text/admin";
import { usePage } from "../context";
import { Field } from "../parts";
import { useAdmin, useAdminText } from "./context";
import { Listed, Screen, Select, User } from "./parts";

/** What the messenger notes. One of a later release is shown by its own name. */
export const ACTIONS = [
    "report_created",
    "report_upheld",
    "report_dismissed",
    "message_deleted",
    "sanction_created",
    "sanction_lifted",
    "appeal_created",
    "appeal_accepted",
    "appeal_refused",
    "rule_set_created",
    "rule_set_enforced",
    "rule_set_retired",
    "rule_set_removed",
    "shadow_run_begun",
    "session_ended",
    "sessions_read",
] as const;
type Action = (typeof ACTIONS)[number];

/** What is typed into the filter; days are of this browser's time zone. */
type Fields = { action: Action | ""; from: string; to: string; side: Side };

/** What a user whom the log is narrowed to has to do with an entry: it is about them, or by them. */
const SIDES = ["user", "by"] as const;
type Side = (typeof SIDES)[number];

/** Returns the filter of the API; the last day is whole. */
export function auditFilter({ action, from, to, side }: Fields, user: string | undefined): Filter {
    const midnight = (day: string, days: number) => {
        const [year, month, date] = day.split("-").map(Number);
        if (year === undefined || month === undefined || date === undefined) return undefined;
        return new Date(year, month - 1, date + days).getTime();
    };
    return {
        action,
        [side]: user,
        from_ms: from === "" ? undefined : midnight(from, 0),
        to_ms: to === "" ? undefined : midnight(to, 1),
    };
}

export function Audit(): ReactNode {
    const at = useAdminText();
    const { audit } = useAdmin();
    const { of: user } = usePlace();
    const [fields, setFields] = useState<Fields>({ action: "", from: "", to: "", side: "user" });
    const filter = useMemo(() => auditFilter(fields, user), [fields, user]);
    useEffect(() => void audit.open(filter), [audit, filter]);
    return (
        <Screen title={at("screen.audit")}>
            <form className="admin-filter" onSubmit={(event) => event.preventDefault()}>
                <Select
                    label={at("action")}
                    value={fields.action}
                    options={[
                        ["", at("anyAction")] as const,
                        ...ACTIONS.map((action) => [action, at(`action.${action}`)] as const),
                    ]}
                    onChange={(action) => setFields({ ...fields, action })}
                />
                <Field
                    label={at("fromDay")}
                    type="date"
                    value={fields.from}
                    max={fields.to || undefined}
                    onChange={(event) => setFields({ ...fields, from: event.target.value })}
                />
                <Field
                    label={at("toDay")}
                    type="date"
                    value={fields.to}
                    min={fields.from || undefined}
                    onChange={(event) => setFields({ ...fields, to: event.target.value })}
                />
            </form>
            {user !== undefined && (
                <div className="row">
                    <Select
                        label={at("ofUser")}
                        value={fields.side}
                        options={SIDES.map((side) => [side, at(`side.${side}`)] as const)}
                        onChange={(side) => setFields({ ...fields, side })}
                    />
                    <User id={user} />
                    <button type="button" onClick={() => go({ admin: "audit" })}>
                        {at("allUsers")}
                    </button>
                </div>
            )}
            <Listed list={audit} empty={at("noAudit")}>
                {(entry) => <AuditItem key={entry.id} entry={entry} />}
            </Listed>
        </Screen>
    );
}

function AuditItem({ entry }: { entry: moderation.AuditEntry }): ReactNode {
    const at = useAdminText();
    const { texts } = usePage();
    const { action, at_ms, by, user, subject } = entry;
    const isKnown = (ACTIONS as readonly string[]).includes(action);
    const subjectPlace = action.startsWith("rule_set") || action === "shadow_run_begun";
    return (
        <li className="admin-entry">
            <time dateTime={new Date(at_ms).toISOString()}>{texts.moment(at_ms)}</time>
            <strong>{isKnown ? at(`action.${action}` as AdminKey) : action}</strong>
            <span>
                {at("by")} {by == null ? at("rules") : <User id={by} />}
            </span>
            {user != null && (
                <span>
                    {at("aboutUser")} <User id={user} />
                </span>
            )}
            {subjectPlace ? (
                <a className="admin-id" href={href({ admin: "rules", of: subject })}>
                    {subject}
                </a>
            ) : (
                <code className="admin-id">{subject}</code>
            )}
        </li>
    );
}

// What users and rules have reported, with what was reported as it was, and what moderators decide.
import type { moderation } from "@posthouse/client";
import { useEffect, useState, type ReactNode } from "react";
import { href } from "../../place";
import { termsOf, type DraftTerms } from "../../state/admin/rule-draft";
import { useSource } from "../../shared/source";
import { useWorkspace } from "../context";
import { useCall } from "../parts";
import { useAdmin, useAdminText } from "./context";
import {
    AdminError,
    ChatName,
    Check,
    DecisionText,
    Facts,
    Listed,
    Moment,
    Quote,
    Screen,
    Select,
    TermsFields,
    useFocusWhen,
    useNote,
    User,
} from "./parts";

const STATES = ["open", "upheld", "dismissed", ""] as const;

export function Queue(): ReactNode {
    const at = useAdminText();
    const { reports } = useAdmin();
    const [state, setState] = useState<(typeof STATES)[number]>("open");
    useEffect(() => void reports.open({ state }), [reports, state]);
    return (
        <Screen title={at("screen.queue")}>
            <div className="row">
                <Select
                    label={at("show")}
                    value={state}
                    options={STATES.map((name) => [name, at(`report.${name === "" ? "all" : name}`)] as const)}
                    onChange={setState}
                />
                <button type="button" onClick={() => void reports.open()}>
                    {at("readAgain")}
                </button>
            </div>
            <Listed list={reports} empty={at("noReports")}>
                {(report) => (
                    <li key={report.id}>
                        <ReportItem report={report} />
                    </li>
                )}
            </Listed>
        </Screen>
    );
}

function ReportItem({ report }: { report: moderation.Report }): ReactNode {
    const at = useAdminText();
    const { chats } = useWorkspace();
    const { chat, seq, evidence, sender, by, reason, comment, state, decision } = report;
    const card = useFocusWhen<HTMLElement>(decision != null);
    const canRead = useSource(chats).get(chat) !== undefined;
    return (
        <article ref={card} tabIndex={-1} className="admin-card" data-state={state}>
            <header>
                <User id={sender} />
                <span className="role">{at(`report.${state}`)}</span>
            </header>
            {evidence.text !== "" && <Quote text={evidence.text} />}
            {evidence.files && evidence.files.length > 0 && (
                <ul className="admin-files" aria-label={at("files")}>
                    {evidence.files.map((file, index) => (
                        <li key={index}>
                            <bdi>{file}</bdi>
                        </li>
                    ))}
                </ul>
            )}
            <Facts
                facts={[
                    [at("sentIn"), <ChatName key="" id={chat} />],
                    [at("sentAt"), <Moment key="" at={evidence.sent_at_ms} />],
                    [at("reportedBy"), by == null ? at("rules") : <User id={by} />],
                    [at("reportedAt"), <Moment key="" at={report.created_at_ms} />],
                    [at("reason"), reason == null ? undefined : at(`reason.${reason}`)],
                    [at(by == null ? "caughtBy" : "comment"), comment && <bdi key="">{comment}</bdi>],
                ]}
            />
            {canRead && <a href={href({ chat, at: seq })}>{at("seeInChat")}</a>}
            {decision ? <DecisionText decision={decision} /> : <ReportDecision report={report} />}
        </article>
    );
}

const NO_TERMS: DraftTerms = { kind: "", everywhere: false, seconds: "86400" };

function ReportDecision({ report }: { report: moderation.Report }): ReactNode {
    const at = useAdminText();
    const admin = useAdmin();
    const { isBusy, error, run } = useCall();
    const [note, noteField] = useNote(at("note"), at("noteHint"));
    const [deletes, setDeletes] = useState(false);
    const [terms, setTerms] = useState(NO_TERMS);
    const decide = (upheld: boolean) => {
        const sanction = termsOf(terms);
        run(() =>
            admin.decideReport(report.id, {
                upheld,
                note,
                ...(upheld && deletes && { delete: true }),
                ...(upheld && sanction && { sanction }),
            }),
        );
    };
    return (
        <form
            onSubmit={(event) => {
                event.preventDefault();
                decide(true);
            }}
        >
            <Check label={at("deleteMessage")} checked={deletes} onChange={setDeletes} />
            <TermsFields terms={terms} onChange={setTerms} canBeNone />
            {noteField}
            <AdminError error={error} />
            <div className="row">
                <button type="submit" className="danger" disabled={isBusy}>
                    {at("uphold")}
                </button>
                <button type="button" disabled={isBusy} onClick={() => decide(false)}>
                    {at("dismiss")}
                </button>
            </div>
        </form>
    );
}

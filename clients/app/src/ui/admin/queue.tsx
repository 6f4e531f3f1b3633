// What users and rules have reported, with what was reported as it was, and what moderators decide.
import type { moderation } from "@posthouse/client";
import { useState, type ReactNode } from "react";
import { href } from "../../place";
import { termsOf, type DraftTerms } from "../../state/admin/rule-draft";
import { useSource } from "../../shared/source";
import { useWorkspace } from "../context";
import { useAdmin, useAdminText } from "./context";
import {
    ChatName,
    Check,
    DecisionCard,
    DecisionForm,
    DecisionScreen,
    Facts,
    Moment,
    TermsFields,
    Quote,
    User,
} from "./parts";

const STATES = ["open", "upheld", "dismissed", ""] as const;

export function Queue(): ReactNode {
    const at = useAdminText();
    const { reports } = useAdmin();
    return (
        <DecisionScreen
            title={at("screen.queue")}
            list={reports}
            states={STATES}
            textOf={(state) => at(`report.${state === "" ? "all" : state}`)}
            empty={at("noReports")}
        >
            {(report) => <ReportItem report={report} />}
        </DecisionScreen>
    );
}

function ReportItem({ report }: { report: moderation.Report }): ReactNode {
    const at = useAdminText();
    const { chats } = useWorkspace();
    const { chat, seq, evidence, sender, by, reason, comment, state, decision } = report;
    const canRead = useSource(chats).get(chat) !== undefined;
    return (
        <DecisionCard
            user={sender}
            state={state}
            stateText={at(`report.${state}`)}
            decision={decision}
            form={<ReportDecision report={report} />}
        >
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
        </DecisionCard>
    );
}

const NO_TERMS: DraftTerms = { kind: "", everywhere: false, seconds: "86400" };

function ReportDecision({ report }: { report: moderation.Report }): ReactNode {
    const at = useAdminText();
    const admin = useAdmin();
    const [deletes, setDeletes] = useState(false);
    const [terms, setTerms] = useState(NO_TERMS);
    const decide = (upheld: boolean, note: string) => {
        const sanction = termsOf(terms);
        return admin.decideReport(report.id, {
            upheld,
            note,
            ...(upheld && deletes && { delete: true }),
            ...(upheld && sanction && { sanction }),
        });
    };
    return (
        <DecisionForm yes={at("uphold")} no={at("dismiss")} yesClass="danger" onDecided={decide}>
            <Check label={at("deleteMessage")} checked={deletes} onChange={setDeletes} />
            <TermsFields terms={terms} onChange={setTerms} canBeNone />
        </DecisionForm>
    );
}

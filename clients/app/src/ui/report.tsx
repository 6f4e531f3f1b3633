// A message is reported to the moderators, with a reason.
import { reports, type moderation, type socket } from "@posthouse/client";
import { useState, type ReactNode } from "react";
import { useText, useWorkspace } from "./context";
import { useUserName } from "./names";
import { Area, Dialog, ErrorText, useCall } from "./parts";

const REASONS: readonly moderation.ReportReason[] = [
    ...(["spam", "abuse", "violence", "sexual", "illegal", "other"] as const),
];
/** By the messenger. */
const MAX_COMMENT_CHARACTERS = 1_000;

export default function Report({
    message,
    onClose,
}: {
    message: socket.Message;
    onClose: () => void;
}): ReactNode {
    const t = useText();
    const { identity, contacts } = useWorkspace();
    const nameOf = useUserName();
    const [reason, setReason] = useState<moderation.ReportReason>();
    const [comment, setComment] = useState("");
    const [blocks, setBlocks] = useState(false);
    const [isSent, setIsSent] = useState(false);
    const { isBusy, error, run } = useCall();
    const send = async (reason: moderation.ReportReason) => {
        const words = comment.trim();
        await reports.report(identity, {
            chat: message.chat,
            seq: message.seq,
            reason,
            ...(words !== "" && { comment: words }),
        });
        if (blocks) await contacts.block(message.sender);
        setIsSent(true);
    };
    if (isSent) {
        return (
            <Dialog title={t("report.title")} onClose={onClose}>
                <p role="status">{t("report.sent")}</p>
                <button type="button" className="primary" autoFocus onClick={onClose}>
                    {t("close")}
                </button>
            </Dialog>
        );
    }
    return (
        <Dialog title={t("report.title")} onClose={onClose}>
            <form
                aria-busy={isBusy}
                onSubmit={(event) => {
                    event.preventDefault();
                    if (reason !== undefined) run(() => send(reason));
                }}
            >
                <p className="hint">{t("report.hint")}</p>
                <fieldset>
                    <legend>{t("report.reason")}</legend>
                    {REASONS.map((name) => (
                        <label key={name} className="check">
                            <input
                                type="radio"
                                name="reason"
                                value={name}
                                required
                                checked={reason === name}
                                onChange={() => setReason(name)}
                            />
                            {t(`reason.${name}`)}
                        </label>
                    ))}
                </fieldset>
                <Area
                    label={t("report.comment")}
                    dir="auto"
                    maxLength={MAX_COMMENT_CHARACTERS}
                    value={comment}
                    onChange={(event) => setComment(event.target.value)}
                />
                {!contacts.isBlocked(message.sender) && (
                    <label className="check">
                        <input
                            type="checkbox"
                            checked={blocks}
                            onChange={(event) => setBlocks(event.target.checked)}
                        />
                        {t("report.block", { name: nameOf(message.sender) })}
                    </label>
                )}
                <ErrorText error={error} />
                <button type="submit" className="primary" disabled={reason === undefined || isBusy}>
                    {t("report.send")}
                </button>
            </form>
        </Dialog>
    );
}

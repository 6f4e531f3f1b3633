// Where an invite link leads, before the user joins.
import { groups, type chat } from "@posthouse/client";
import { useEffect, useState, type ReactNode } from "react";
import { go } from "../place";
import { useText, useWorkspace } from "./context";
import { Avatar, Dialog, ErrorText, Name, useCall } from "./parts";

export default function Join({ code }: { code: string }): ReactNode {
    const t = useText();
    const workspace = useWorkspace();
    const [found, setFound] = useState<chat.InvitePreview>();
    const [hasAsked, setHasAsked] = useState(false);
    const { isBusy, error, run } = useCall();
    const close = () => go({}, true);
    useEffect(
        () => run(async () => setFound(await groups.invite(workspace.identity, code))),
        [workspace, code],
    );
    const join = async () => {
        const chat = found?.chat_id ?? (await workspace.joinByInvite(code));
        if (chat === undefined) setHasAsked(true);
        else go({ chat }, true);
    };
    return (
        <Dialog title={t("join.title")} onClose={close}>
            <ErrorText error={error} here={found ? {} : { not_found: "join.gone" }} />
            {!found && error === undefined && <p aria-busy="true">{t("loading")}</p>}
            {found && (
                <>
                    <div className="row">
                        <Avatar id={code} name={found.title} />
                        <Name text={found.title} />
                        <span className="hint">{t("members", { count: found.member_count })}</span>
                    </div>
                    {hasAsked ? (
                        <p role="status">{t("join.asked")}</p>
                    ) : (
                        <>
                            {found.needs_approval && !found.chat_id && (
                                <p className="hint">{t("join.needsApproval")}</p>
                            )}
                            <button
                                type="button"
                                className="primary"
                                disabled={isBusy}
                                onClick={() => run(join)}
                            >
                                {t(
                                    found.chat_id
                                        ? "join.open"
                                        : found.needs_approval
                                          ? "join.ask"
                                          : "join.join",
                                )}
                            </button>
                        </>
                    )}
                </>
            )}
        </Dialog>
    );
}

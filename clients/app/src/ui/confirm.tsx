// A question before what cannot be taken back.
import type { ReactNode } from "react";
import { useText } from "./context";
import { Dialog, ErrorText, useCall } from "./parts";

type Props = {
    title: string;
    text: string;
    /** What is done, as the name of the button. */
    action: string;
    onConfirmed: () => Promise<void>;
    onClose: () => void;
};

export function Confirm({ title, text, action, onConfirmed, onClose }: Props): ReactNode {
    const t = useText();
    const { isBusy, error, run } = useCall();
    const confirm = async () => {
        await onConfirmed();
        onClose();
    };
    return (
        <Dialog title={title} onClose={onClose}>
            <p>{text}</p>
            <ErrorText error={error} />
            <div className="row">
                <button type="button" autoFocus onClick={onClose}>
                    {t("cancel")}
                </button>
                <button type="button" className="danger" disabled={isBusy} onClick={() => run(confirm)}>
                    {action}
                </button>
            </div>
        </Dialog>
    );
}

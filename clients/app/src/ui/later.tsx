// Dialogs that are seldom seen, whose files come with their first use.
import { Suspense, type ReactNode } from "react";
import { useText } from "./context";
import { Boundary, Dialog } from "./parts";

/** A dialog that is loaded first. It may not come: without a connection, and after a release that has another one. */
export function Later({
    title,
    onClose,
    children,
}: {
    title: string;
    onClose: () => void;
    children: ReactNode;
}): ReactNode {
    const t = useText();
    const frame = (text: string) => (
        <Dialog title={title} onClose={onClose}>
            <p role="status">{text}</p>
        </Dialog>
    );
    return (
        <Boundary fallback={frame(t("error.offline"))}>
            <Suspense fallback={frame(t("loading"))}>{children}</Suspense>
        </Boundary>
    );
}

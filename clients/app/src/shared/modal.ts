// What makes a dialog modal. How it looks, and what closes it besides Escape, is of each client.
import { useLayoutEffect, useRef, type RefObject, type SyntheticEvent } from "react";

export type Modal = {
    ref: RefObject<HTMLDialogElement | null>;
    onCancel: (event: SyntheticEvent<HTMLDialogElement>) => void;
};

/** Returns what a `<dialog>` needs to be open as long as it is in the page. The browser keeps the focus in it, closes it at Escape and puts the focus back. */
export function useModal(onClose: () => void): Modal {
    const ref = useRef<HTMLDialogElement>(null);
    // A browser gives the focus back with `close`, and only while the dialog is in the page: a later effect would find it taken out.
    useLayoutEffect(() => {
        const dialog = ref.current;
        if (dialog && !dialog.open) dialog.showModal();
        return () => dialog?.close();
    }, []);
    const onCancel = (event: SyntheticEvent<HTMLDialogElement>) => {
        event.preventDefault();
        onClose();
    };
    return { ref, onCancel };
}

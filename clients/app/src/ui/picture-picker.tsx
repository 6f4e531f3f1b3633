// Chooses a picture of a user or a group, and takes it away.
import { useRef, type ReactNode } from "react";
import { useText } from "./context";
import { ErrorText, useCall } from "./parts";

type Props = {
    /** The picture as it is. */
    children: ReactNode;
    onChosen: (picture: File) => Promise<void>;
    onRemoved: () => Promise<void>;
};

export function PicturePicker({ children, onChosen, onRemoved }: Props): ReactNode {
    const t = useText();
    const input = useRef<HTMLInputElement>(null);
    const { isBusy, error, run } = useCall();
    return (
        <div className="field picture-picker" aria-busy={isBusy}>
            <div className="row">
                {children}
                <button type="button" disabled={isBusy} onClick={() => input.current?.click()}>
                    {t("picture.choose")}
                </button>
                <button type="button" disabled={isBusy} onClick={() => run(onRemoved)}>
                    {t("picture.remove")}
                </button>
                <input
                    ref={input}
                    type="file"
                    accept="image/*"
                    aria-label={t("picture.choose")}
                    hidden
                    onChange={({ target }) => {
                        const picture = target.files?.[0];
                        target.value = "";
                        if (picture) run(() => onChosen(picture));
                    }}
                />
                {isBusy && <span role="status">{t("picture.busy")}</span>}
            </div>
            <ErrorText error={error} />
        </div>
    );
}

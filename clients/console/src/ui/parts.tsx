// Small parts that several screens have.
import { useId, type ComponentProps, type ReactNode } from "react";
import { copy } from "../../../app/src/shared/clipboard";
import { Field as PlainField } from "../../../app/src/shared/fields";
import { useModal } from "../../../app/src/shared/modal";
import { Refusal, Unreachable } from "../api";
import { stepOf, type Condition, type Phase } from "../resources";
import { Changed, Exists } from "../state/edit";
import { OtherUser } from "../state/session";
import { PolicyChanged } from "../state/tenant-view";
import type { Key } from "../text/texts";
import { usePage, useText } from "./context";

export { Boundary } from "../../../app/src/shared/boundary";
export { useCall } from "../../../app/src/shared/call";

/** Returns the key of what an error means to the user, and Kubernetes' own words where it has some. */
export function errorOf(error: unknown): { key: Key; message?: string } {
    if (error instanceof Changed) return { key: "error.changed" };
    if (error instanceof Exists) return { key: "error.exists" };
    if (error instanceof PolicyChanged) return { key: "error.policyChanged" };
    if (error instanceof OtherUser) return { key: "error.otherUser" };
    if (error instanceof Unreachable) return { key: "error.unreachable" };
    if (!(error instanceof Refusal)) return { key: "error.fault" };
    if (error.isSignedOut) return { key: "error.unauthorized" };
    if (error.isForbidden) return { key: "error.forbidden", message: error.message };
    if (error.isNotFound) return { key: "error.notFound" };
    return { key: "error.refused", message: error.message };
}

/** What went wrong, said at once. */
export function ErrorText({ error }: { error: unknown }): ReactNode {
    const t = useText();
    if (error === undefined) return null;
    const { key, message } = errorOf(error);
    return (
        <p className="error" role="alert">
            {t(key, message === undefined ? {} : { message })}
        </p>
    );
}

/** A dialog above the page. */
export function Dialog({
    title,
    onClose,
    children,
}: {
    title: string;
    onClose: () => void;
    children: ReactNode;
}): ReactNode {
    const t = useText();
    const modal = useModal(onClose);
    const id = useId();
    return (
        <dialog {...modal} aria-labelledby={id}>
            <div className="dialog">
                <header>
                    <h2 id={id}>{title}</h2>
                    <button type="button" onClick={onClose}>
                        {t("close")}
                    </button>
                </header>
                {children}
            </div>
        </dialog>
    );
}

/** A field for names as Kubernetes has them: nothing of it is completed or corrected. */
export function Field(props: ComponentProps<typeof PlainField>): ReactNode {
    return <PlainField autoComplete="off" autoCapitalize="none" spellCheck={false} {...props} />;
}

/** A field for a name that says at once why what is written can be none: `refusal`, absent while it can. */
export function NameField({
    refusal,
    ...field
}: ComponentProps<typeof Field> & { refusal: string | undefined }): ReactNode {
    return (
        <>
            <Field aria-invalid={refusal !== undefined} {...field} />
            {refusal !== undefined && (
                <p className="error" role="alert">
                    {refusal}
                </p>
            )}
        </>
    );
}

/** A command that does the same, to be copied. */
export function Commands({ commands }: { commands: readonly string[] }): ReactNode {
    const t = useText();
    const { say } = usePage();
    const text = commands.join("\n");
    return (
        <details className="commands">
            <summary>{t("kubectl")}</summary>
            <pre role="group" tabIndex={0} aria-label={t("kubectl")}>
                {text}
            </pre>
            <button
                type="button"
                onClick={() => void copy(text).then((isThere) => say(t(isThere ? "copied" : "notCopied")))}
            >
                {t("copy")}
            </button>
        </details>
    );
}

/** What a tenant is at. The mark differs in its form as well as in its colour. */
export function PhaseMark({ phase }: { phase: Phase }): ReactNode {
    const t = useText();
    return (
        <span className="phase" data-phase={phase}>
            {t(`phase.${phase}`)}
        </span>
    );
}

/** What is the matter, and what to do next. */
export function Matter({ condition }: { condition: Condition }): ReactNode {
    const t = useText();
    const { matter, step } = stepOf(condition);
    return (
        <>
            <span>{matter}</span>
            {step !== undefined && (
                <span className="step">
                    <strong>{t("nextStep")}</strong> {step}
                </span>
            )}
        </>
    );
}

/** How old something is; the whole moment is beside it. */
export function Age({ at }: { at: string }): ReactNode {
    const { texts } = usePage();
    const atMs = Date.parse(at);
    return (
        <time dateTime={at} title={texts.moment(atMs)}>
            {texts.age(atMs, Date.now())}
        </time>
    );
}

/** A table that scrolls within its own width, also by keyboard. The children are its rows. */
export function Table({
    caption,
    columns,
    children,
}: {
    caption: string;
    columns: readonly string[];
    children: ReactNode;
}): ReactNode {
    return (
        <div className="table" role="group" aria-label={caption} tabIndex={0}>
            <table aria-label={caption}>
                <thead>
                    <tr>
                        {columns.map((column) => (
                            <th key={column} scope="col">
                                {column}
                            </th>
                        ))}
                    </tr>
                </thead>
                <tbody>{children}</tbody>
            </table>
        </div>
    );
}

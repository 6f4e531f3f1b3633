// Fields of forms: a label, what is entered, and what is to know of it.
import {
    useId,
    type ElementType,
    type InputHTMLAttributes,
    type ReactNode,
    type SelectHTMLAttributes,
    type TextareaHTMLAttributes,
} from "react";

type Labelled<A> = { label: string; hint?: string | undefined } & A;

function Labelled({
    control: Control,
    label,
    hint,
    ...rest
}: Labelled<{ control: ElementType; [attribute: string]: unknown }>): ReactNode {
    const id = useId();
    const hintId = hint === undefined ? hint : `${id}-hint`;
    return (
        <div className="field">
            <label htmlFor={id}>{label}</label>
            <Control {...rest} id={id} aria-describedby={hintId} />
            {hint !== undefined && (
                <small id={hintId} className="hint">
                    {hint}
                </small>
            )}
        </div>
    );
}

export function Field(props: Labelled<InputHTMLAttributes<HTMLInputElement>>): ReactNode {
    return <Labelled control="input" {...props} />;
}

/** A field of several lines. */
export function Area(props: Labelled<TextareaHTMLAttributes<HTMLTextAreaElement>>): ReactNode {
    return <Labelled control="textarea" rows={3} {...props} />;
}

/** One of several. The children are its options. */
export function Select(props: Labelled<SelectHTMLAttributes<HTMLSelectElement>>): ReactNode {
    return <Labelled control="select" {...props} />;
}

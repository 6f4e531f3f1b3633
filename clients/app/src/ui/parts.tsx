// Small parts that several screens have.
import { CallError, QueryError, type ErrorCode } from "@posthouse/client";
import {
    Component,
    useEffect,
    useId,
    useRef,
    useState,
    type ButtonHTMLAttributes,
    type ReactNode,
} from "react";
import { plainName } from "../text/markup";
import type { Key } from "../text/texts";
import { useText } from "./context";

/** Paths of the icons, in a box of 24. */
const ICONS = {
    attach: "M8 12.5 14.5 6a3 3 0 0 1 4.2 4.2l-8.4 8.4a5 5 0 0 1-7-7L11 4",
    back: "M15 5l-7 7 7 7",
    clock: "M12 7v5l3 2 M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18",
    close: "M6 6l12 12 M18 6L6 18",
    edit: "M4 20l1-4L16 5l3 3L8 19z",
    failed: "M12 7v6 M12 16.5v.5 M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18",
    file: "M7 3h7l4 4v14H7z M14 3v4h4",
    members:
        "M9 11a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7z M3 20c0-4 3-6 6-6s6 2 6 6 M16 4.5a3.5 3.5 0 0 1 0 6.5 M17 14c3 .5 4 3 4 6",
    new: "M12 5v14 M5 12h14",
    react: "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18 M8.5 14.5c2 2.5 5 2.5 7 0 M9 9.5v.5 M15 9.5v.5",
    reply: "M9 6l-5 5 5 5 M4 11h9c4 0 7 2 7 7",
    search: "M11 4a7 7 0 1 0 0 14 7 7 0 0 0 0-14 M16 16l5 5",
    send: "M4 12l16-8-6 16-3-6z",
    settings: "M4 7h10 M18 7h2 M4 17h2 M10 17h10 M16 5v4 M8 15v4",
    shield: "M12 3l7 3v5c0 5-3 8-7 10-4-2-7-5-7-10V6z M9 11.5l2.2 2.2L15 10",
    thread: "M5 5h14v10H11l-4 4v-4H5z",
    tick: "M5 12.5l4.5 4.5L19 7.5",
    ticks: "M2 12.5L6.5 17 16 7.5 M11 16l1 1 9.5-9.5",
    trash: "M5 7h14 M10 4h4 M7 7l1 13h8l1-13",
    down: "M6 9l6 6 6-6",
} as const;

export type IconName = keyof typeof ICONS;

/** An icon says nothing by itself: what it is for stands beside it, or is the name of its button. */
export function Icon({ name }: { name: IconName }): ReactNode {
    return (
        <svg className="icon" data-icon={name} viewBox="0 0 24 24" aria-hidden="true">
            <path d={ICONS[name]} />
        </svg>
    );
}

/** A button that shows an icon and is named by a text. */
export function IconButton({
    icon,
    label,
    ...rest
}: { icon: IconName; label: string } & ButtonHTMLAttributes<HTMLButtonElement>): ReactNode {
    return (
        <button type="button" className="icon-button" aria-label={label} title={label} {...rest}>
            <Icon name={icon} />
        </button>
    );
}

/** The name of a user or a chat, which may be written from right to left and turns nothing around it. */
export function Name({ text }: { text: string }): ReactNode {
    return <bdi className="name">{plainName(text)}</bdi>;
}

/** A picture of who has none: two letters, on a colour that follows from the id. */
export function Avatar({
    id,
    name,
    isOnline = false,
}: {
    id: string;
    name: string;
    isOnline?: boolean;
}): ReactNode {
    const letters = plainName(name)
        .split(/\s+/)
        .slice(0, 2)
        .map((word) => [...word][0] ?? "")
        .join("");
    return (
        <span
            className="avatar"
            data-hue={parseInt(id.slice(0, 2), 16) % 8 || 0}
            data-online={isOnline}
            aria-hidden="true"
        >
            {letters.toLocaleUpperCase()}
        </span>
    );
}

/** Codes that have a text of their own; every other one is a fault of the messenger to who reads it. */
const EXPLAINED: Partial<Record<ErrorCode, Key>> = {
    unauthenticated: "error.unauthenticated",
    permission_denied: "error.permission_denied",
    not_a_member: "error.not_a_member",
    consent_required: "error.consent_required",
    not_found: "error.not_found",
    no_such_file: "error.no_such_file",
    not_configured: "error.not_configured",
    conflict: "error.conflict",
    limit_reached: "error.limit_reached",
    too_large: "error.too_large",
    rate_limited: "error.rate_limited",
    slow_mode: "error.slow_mode",
    invalid_argument: "error.invalid_argument",
};

/** Returns the key of what a refusal means to the user. */
export function codeKey(code: ErrorCode | undefined): Key {
    return (code && EXPLAINED[code]) ?? "error.fault";
}

/** Returns the key of what went wrong, and the messenger's own words where it has some. */
export function errorOf(error: unknown): { key: Key; detail?: string } {
    if (error instanceof CallError && error.status === 0) return { key: "error.offline" };
    if (error instanceof QueryError && error.code === undefined) return { key: "error.offline" };
    if (error instanceof CallError || error instanceof QueryError) {
        const detail =
            error instanceof CallError && error.code === "invalid_argument" ? error.problem?.detail : undefined;
        return { key: codeKey(error.code), ...(detail && { detail }) };
    }
    return { key: "error.fault" };
}

/** What went wrong, said at once. */
export function ErrorText({ error }: { error: unknown }): ReactNode {
    const t = useText();
    if (error === undefined) return null;
    const { key, detail } = errorOf(error);
    return (
        <p className="error" role="alert">
            {t(key)} {detail}
        </p>
    );
}

/** Runs one call at a time for a form, and keeps what went wrong with it. */
export function useCall(): { isBusy: boolean; error: unknown; run: (call: () => Promise<void>) => void } {
    const [state, setState] = useState<{ isBusy: boolean; error: unknown }>({
        isBusy: false,
        error: undefined,
    });
    const run = (call: () => Promise<void>) => {
        if (state.isBusy) return;
        setState({ isBusy: true, error: undefined });
        call().then(
            () => setState({ isBusy: false, error: undefined }),
            (error: unknown) => setState({ isBusy: false, error }),
        );
    };
    return { ...state, run };
}

/** A dialog above the page. The browser keeps the focus in it, closes it at Escape and puts the focus back. */
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
    const ref = useRef<HTMLDialogElement>(null);
    const id = useId();
    useEffect(() => {
        const dialog = ref.current;
        if (dialog && !dialog.open) dialog.showModal();
        // By itself the browser would begin with the button that closes.
        dialog?.querySelector<HTMLElement>("input, select, textarea")?.focus();
        return () => dialog?.close();
    }, []);
    return (
        <dialog
            ref={ref}
            aria-labelledby={id}
            onCancel={(event) => {
                event.preventDefault();
                onClose();
            }}
            onClick={(event) => event.target === ref.current && onClose()}
        >
            <div className="dialog">
                <header>
                    <h2 id={id}>{title}</h2>
                    <IconButton icon="close" label={t("close")} onClick={onClose} />
                </header>
                {children}
            </div>
        </dialog>
    );
}

/** A field with its label, and what is wrong with it. */
export function Field({
    label,
    hint,
    ...rest
}: { label: string; hint?: string } & React.InputHTMLAttributes<HTMLInputElement>): ReactNode {
    const id = useId();
    return (
        <div className="field">
            <label htmlFor={id}>{label}</label>
            <input id={id} {...rest} aria-describedby={hint === undefined ? undefined : `${id}-hint`} />
            {hint !== undefined && (
                <small id={`${id}-hint`} className="hint">
                    {hint}
                </small>
            )}
        </div>
    );
}

type BoundaryProps = { children: ReactNode; fallback: ReactNode };

/** Shows something else where a component fails: a fault here takes no draft and no message with it. */
export class Boundary extends Component<BoundaryProps, { hasFailed: boolean }> {
    override state = { hasFailed: false };

    static getDerivedStateFromError(): { hasFailed: boolean } {
        return { hasFailed: true };
    }

    override render(): ReactNode {
        return this.state.hasFailed ? this.props.fallback : this.props.children;
    }
}

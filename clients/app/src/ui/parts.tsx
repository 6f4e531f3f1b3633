// Small parts that several screens have.
import { CallError, files, QueryError, type ErrorCode } from "@posthouse/client";
import { useId, useLayoutEffect, useState, type ButtonHTMLAttributes, type ReactNode } from "react";
import { useCall } from "../shared/call";
import { useModal } from "../shared/modal";
import { plainName } from "../text/markup";
import type { Key } from "../text/texts";
import { useText } from "./context";

export { Boundary } from "../shared/boundary";
export { Area, Field, Select } from "../shared/fields";
export { useCall };

/** Paths of the icons, in a box of 24. */
const ICONS = {
    alarm: "M12 8v5l3 2 M12 4a8.5 8.5 0 1 0 0 17 8.5 8.5 0 0 0 0-17 M4 4L2 6 M20 4l2 2",
    archive: "M4 5h16v4H4z M5.5 9v10h13V9 M10 13h4",
    attach: "M8 12.5 14.5 6a3 3 0 0 1 4.2 4.2l-8.4 8.4a5 5 0 0 1-7-7L11 4",
    back: "M15 5l-7 7 7 7",
    block: "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18 M5.6 5.6l12.8 12.8",
    clock: "M12 7v5l3 2 M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18",
    close: "M6 6l12 12 M18 6L6 18",
    edit: "M4 20l1-4L16 5l3 3L8 19z",
    failed: "M12 7v6 M12 16.5v.5 M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18",
    file: "M7 3h7l4 4v14H7z M14 3v4h4",
    flag: "M6 21V4 M6 5h11l-2 4 2 4H6",
    forward: "M15 6l5 5-5 5 M20 11h-9c-4 0-7 2-7 7",
    link: "M10 14l4-4 M8.5 11L6 13.5a3.2 3.2 0 0 0 4.5 4.5L13 15.5 M15.5 13l2.5-2.5A3.2 3.2 0 0 0 13.5 6L11 8.5",
    members:
        "M9 11a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7z M3 20c0-4 3-6 6-6s6 2 6 6 M16 4.5a3.5 3.5 0 0 1 0 6.5 M17 14c3 .5 4 3 4 6",
    more: "M12 5.5v.5 M12 12v.5 M12 18.5v.5",
    mute: "M6 16v-5a6 6 0 0 1 9-5.2 M18 10v6h1.5H5 M10 19.5c1 1.3 3 1.3 4 0 M4 4l16 16",
    new: "M12 5v14 M5 12h14",
    pin: "M9 4h6 M10 4v6l-3 4h10l-3-4V4 M12 14v7",
    react: "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18 M8.5 14.5c2 2.5 5 2.5 7 0 M9 9.5v.5 M15 9.5v.5",
    reply: "M9 6l-5 5 5 5 M4 11h9c4 0 7 2 7 7",
    search: "M11 4a7 7 0 1 0 0 14 7 7 0 0 0 0-14 M16 16l5 5",
    send: "M4 12l16-8-6 16-3-6z",
    settings: "M4 7h10 M18 7h2 M4 17h2 M10 17h10 M16 5v4 M8 15v4",
    shield: "M12 3l7 3v5c0 5-3 8-7 10-4-2-7-5-7-10V6z M9 11.5l2.2 2.2L15 10",
    star: "M12 4l2.5 5.2 5.5.7-4 3.9 1 5.7-5-2.7-5 2.7 1-5.7-4-3.9 5.5-.7z",
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

/** What tells a user apart from one with a like name; nothing where there is none. */
export function Username({ of }: { of: string | undefined }): ReactNode {
    return of === undefined ? null : <span className="username">@{of}</span>;
}

type AvatarProps = {
    id: string;
    name: string;
    isOnline?: boolean;
    src?: string;
    /** The address shows no picture. */
    onBroken?: () => void;
    ref?: React.Ref<HTMLSpanElement>;
};

/** A picture, and for who has none two letters on a colour that follows from the id. */
export function Avatar({ id, name, isOnline = false, src, onBroken, ref }: AvatarProps): ReactNode {
    const letters = plainName(name)
        .split(/\s+/)
        .slice(0, 2)
        .map((word) => [...word][0] ?? "")
        .join("");
    return (
        <span
            ref={ref}
            className="avatar"
            data-hue={parseInt(id.slice(0, 2), 16) % 8 || 0}
            data-online={isOnline}
            aria-hidden="true"
        >
            {letters.toLocaleUpperCase()}
            {src !== undefined && <img src={src} alt="" decoding="async" onError={onBroken} />}
        </span>
    );
}

/** The codes of refusals. Each has a text. */
const KNOWN: Record<ErrorCode, true> = {
    malformed: true,
    invalid_argument: true,
    unauthenticated: true,
    token_expired: true,
    permission_denied: true,
    not_a_member: true,
    consent_required: true,
    not_found: true,
    no_such_file: true,
    not_configured: true,
    method_not_allowed: true,
    unsupported_media_type: true,
    conflict: true,
    cursor_expired: true,
    limit_reached: true,
    idempotency_conflict: true,
    too_large: true,
    rate_limited: true,
    slow_mode: true,
    unavailable: true,
    internal: true,
};

/** Returns the key of what a refusal means to the user; a code of a later release is a fault to who reads it. */
export function codeKey(code: ErrorCode | undefined): Key {
    return code && KNOWN[code] ? `error.${code}` : "error.fault";
}

/** Codes whose refusals say in their own words what is wrong with the request, and what makes room. */
const DETAILED: ReadonlySet<ErrorCode | undefined> = new Set(["invalid_argument", "limit_reached"]);

/** Returns the key of what went wrong, and the messenger's own words where it has some. */
export function errorOf(error: unknown): { key: Key; detail?: string } {
    if (error instanceof CallError && error.status === 0) return { key: "error.offline" };
    if (error instanceof QueryError && error.code === undefined) return { key: "error.offline" };
    if (error instanceof files.FileError)
        return { key: error.file.refused ? `refusal.${error.file.refused}` : "fileRefused" };
    if (error instanceof CallError || error instanceof QueryError) {
        const detail =
            error instanceof CallError && DETAILED.has(error.code) ? error.problem?.detail : undefined;
        return { key: codeKey(error.code), ...(detail && { detail }) };
    }
    return { key: "error.fault" };
}

/** What went wrong, said at once. `here` is what refusals mean in this place. */
export function ErrorText({
    error,
    here,
}: {
    error: unknown;
    here?: Partial<Record<ErrorCode, Key>>;
}): ReactNode {
    const t = useText();
    if (error === undefined) return null;
    const own = error instanceof CallError && error.code && here?.[error.code];
    const { key, detail } = own ? { key: own, detail: undefined } : errorOf(error);
    return (
        <p className="error" role="alert">
            {t(key)} {detail && <bdi>{detail}</bdi>}
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
    const { ref, onCancel } = useModal(onClose);
    const id = useId();
    // By itself the browser would begin with the button that closes.
    useLayoutEffect(
        () => ref.current?.querySelector<HTMLElement>("input:not([hidden]), select, textarea")?.focus(),
        [],
    );
    return (
        <dialog
            ref={ref}
            aria-labelledby={id}
            onCancel={onCancel}
            onClick={(event) => event.target === ref.current && onClose()}
        >
            <div className="dialog">
                <div className="title-bar">
                    <h2 id={id}>{title}</h2>
                    <IconButton icon="close" label={t("close")} onClick={onClose} />
                </div>
                {children}
            </div>
        </dialog>
    );
}

/** The end of a form that stays when it was saved: its button, and that it was. */
export function SaveRow({
    isBusy,
    isSaved,
    children,
}: {
    isBusy: boolean;
    isSaved: boolean;
    children?: ReactNode;
}): ReactNode {
    const t = useText();
    return (
        <div className="row">
            <button type="submit" disabled={isBusy}>
                {t("save")}
            </button>
            {children}
            <span role="status">{isSaved && t("saved")}</span>
        </div>
    );
}

/** A form that says that it was saved until something in it is changed, or why it was not. */
export function SavedForm({
    save,
    children,
}: {
    save: (form: FormData) => Promise<void>;
    children: ReactNode;
}): ReactNode {
    const { isBusy, error, run } = useCall();
    const [isSaved, setIsSaved] = useState(false);
    return (
        <form
            onChange={() => setIsSaved(false)}
            onSubmit={(event) => {
                event.preventDefault();
                const form = new FormData(event.currentTarget);
                run(async () => {
                    await save(form);
                    setIsSaved(true);
                });
            }}
        >
            {children}
            <ErrorText error={error} />
            <SaveRow isBusy={isBusy} isSaved={isSaved} />
        </form>
    );
}

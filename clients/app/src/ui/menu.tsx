// A button that opens a menu of what can be done, by the pattern of WAI-ARIA: arrows go through it, Escape closes it and the focus goes back.
import { useEffect, useLayoutEffect, useRef, useState, type KeyboardEvent, type ReactNode } from "react";
import { createPortal } from "react-dom";
import { Icon, IconButton, type IconName } from "./parts";

/** One thing to do; `undefined` in a list of them is none. */
export type MenuItem = { label: string; icon?: IconName; isDanger?: boolean; onChosen: () => void };

type Props = {
    label: string;
    items: ReadonlyArray<MenuItem | undefined | false>;
    icon?: IconName;
    /** Beside each other, and not one below the other. */
    isRow?: boolean;
    tabIndex?: number;
    disabled?: boolean;
};

/** Between the menu and the edges of the screen. */
const MARGIN_PX = 8;

export function Menu({ label, items, icon = "more", isRow = false, tabIndex, disabled }: Props): ReactNode {
    const [isOpen, setIsOpen] = useState(false);
    const button = useRef<HTMLSpanElement>(null);
    const offered = items.filter((item) => typeof item === "object");
    const close = (returnsFocus: boolean) => {
        setIsOpen(false);
        if (returnsFocus) button.current?.querySelector("button")?.focus();
    };
    if (offered.length === 0) return null;
    return (
        <span ref={button} className="menu-button">
            <IconButton
                icon={icon}
                label={label}
                aria-haspopup="menu"
                aria-expanded={isOpen}
                {...(tabIndex !== undefined && { tabIndex })}
                disabled={disabled}
                onClick={() => setIsOpen(!isOpen)}
            />
            {isOpen &&
                // In what scrolls it would be cut off, behind a dialog it could not be reached, and beside all parts of the page not be found.
                createPortal(
                    <List label={label} items={offered} isRow={isRow} anchor={button} onClose={close} />,
                    button.current?.closest("dialog, main, aside, nav") ?? document.body,
                )}
        </span>
    );
}

type ListProps = {
    label: string;
    items: readonly MenuItem[];
    isRow: boolean;
    anchor: React.RefObject<HTMLElement | null>;
    onClose: (returnsFocus: boolean) => void;
};

function List({ label, items, isRow, anchor, onClose }: ListProps): ReactNode {
    const list = useRef<HTMLDivElement>(null);
    useLayoutEffect(() => {
        const [menu, button] = [list.current, anchor.current?.getBoundingClientRect()];
        if (!menu || !button) return;
        const { width, height } = menu.getBoundingClientRect();
        const isRtl = document.documentElement.dir === "rtl";
        const left = isRtl ? button.left : button.right - width;
        const isBelow = button.bottom + height + MARGIN_PX <= window.innerHeight;
        const top = isBelow ? button.bottom : button.top - height;
        const within = (at: number, size: number, limit: number) =>
            Math.max(MARGIN_PX, Math.min(at, limit - size - MARGIN_PX));
        menu.style.left = `${within(left, width, window.innerWidth)}px`;
        menu.style.top = `${within(top, height, window.innerHeight)}px`;
    }, [anchor]);
    useEffect(() => list.current?.querySelector("button")?.focus({ preventScroll: true }), []);
    const key = (event: KeyboardEvent) => {
        const buttons = [...(list.current?.querySelectorAll("button") ?? [])];
        const at = buttons.indexOf(document.activeElement as HTMLButtonElement);
        const [next, before] = [(at + 1) % buttons.length, (at - 1 + buttons.length) % buttons.length];
        const isRtl = document.documentElement.dir === "rtl";
        const to = {
            ArrowDown: next,
            ArrowUp: before,
            ...(isRow && { ArrowRight: isRtl ? before : next, ArrowLeft: isRtl ? next : before }),
            Home: 0,
            End: buttons.length - 1,
        }[event.key];
        if (event.key === "Escape" || event.key === "Tab") onClose(true);
        else if (to !== undefined) buttons[to]?.focus();
        else if (event.key === "Enter" || event.key === " ") return event.stopPropagation();
        event.preventDefault();
        event.stopPropagation();
    };
    return (
        <div
            ref={list}
            className="menu"
            data-row={isRow}
            role="menu"
            aria-label={label}
            onKeyDown={key}
            // What is in a portal is below the row or the dialog in the tree of components.
            onClick={(event) => event.stopPropagation()}
            onFocus={(event) => event.stopPropagation()}
            onBlur={(event) => {
                const to = event.relatedTarget;
                if (!event.currentTarget.contains(to) && !anchor.current?.contains(to)) onClose(false);
            }}
        >
            {items.map(({ label, icon, isDanger, onChosen }) => (
                <button
                    key={label}
                    type="button"
                    role="menuitem"
                    tabIndex={-1}
                    className={isDanger ? "danger" : undefined}
                    onClick={() => {
                        onClose(true);
                        onChosen();
                    }}
                >
                    {icon && <Icon name={icon} />} {label}
                </button>
            ))}
        </div>
    );
}

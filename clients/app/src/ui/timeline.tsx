// The messages of a chat. Only those near the screen are elements, and the list keeps its place whatever comes before or behind it.
import {
    useCallback,
    useEffect,
    useLayoutEffect,
    useMemo,
    useRef,
    useState,
    type KeyboardEvent,
    type ReactNode,
} from "react";
import { VList, type VListHandle } from "virtua";
import type { ChatState } from "../state/chats";
import { useSource } from "../shared/source";
import { usePage, useText, useWorkspace } from "./context";
import { Entry, SendingEntry, type Act } from "./entry";
import { Icon } from "./parts";
import { indexOf, rows, type Row } from "./rows";

/** Closer than this to an end, the next page is fetched. */
const NEAR_PX = 600;
/** A list this close to its end stays there. */
const STUCK_PX = 48;

/** What the list displays as, which it sets in its style: few messages stand at the end of it. */
const COLUMN = { display: "flex", flexDirection: "column" } as const;

type Props = {
    chat: ChatState;
    /** The message to go to. */
    at?: number;
    /** It is there, or there is none. */
    onArrived: (isHere: boolean) => void;
    act: Act;
};

export function Timeline({ chat, at, onArrived, act }: Props): ReactNode {
    const t = useText();
    const { texts } = usePage();
    const workspace = useWorkspace();
    const room = useSource(workspace.room(chat.chat));
    const sends = useSource(workspace.sends);
    const list = useRef<VListHandle>(null);
    const isStuck = useRef(true);
    /** Rows came before those that are seen. The list has moved on the screen, and learns where it is by the scroll of the next frame. */
    const isMoving = useRef(false);
    const [active, setActive] = useState<string>();
    const [isFar, setIsFar] = useState(false);
    // Where the unread began when the chat was opened; it stays there while the chat is open.
    const [readSeq] = useState(chat.watermarks.read_seq);

    const version = room.version;
    const sendings = room.isAtEnd ? sends.textsOf(chat.chat) : [];
    const shown = useMemo(
        () => rows(room.entries, sendings, workspace.user, Date.now()),
        // Both have their versions.
        [room, version, sends.version],
    );
    const firstUnread = shown.findIndex(
        (row) => "message" in row && row.message.seq > readSeq && row.message.sender !== workspace.user,
    );
    const isShift = useIsShift(shown);

    const look = useCallback(() => {
        const handle = list.current;
        if (!handle || handle.viewportSize === 0 || room.state !== "ready") return;
        const left = handle.scrollSize - handle.scrollOffset - handle.viewportSize;
        setIsFar(!room.isAtEnd || left > handle.viewportSize);
        // Before its first scroll a list that belongs at its end is at its beginning.
        const isPlaced = !isStuck.current || left < STUCK_PX;
        // A page that came and is not shown yet moves what is seen.
        const isCurrent = room.version === version && !isMoving.current;
        if (isPlaced && isCurrent && handle.scrollOffset < NEAR_PX) void room.loadEarlier();
        if (left < NEAR_PX) void room.loadLater();
        if (document.visibilityState !== "visible" || !document.hasFocus()) return;
        const last = shown[handle.findItemIndex(handle.scrollOffset + handle.viewportSize - 1)];
        if (isStuck.current) workspace.read(chat.chat, room.lastSeq);
        else if (last && "message" in last) workspace.read(chat.chat, last.message.seq);
    }, [room, version, shown, workspace, chat.chat]);

    const onScroll = (offset: number) => {
        const handle = list.current;
        if (!handle) return;
        isMoving.current = false;
        isStuck.current = room.isAtEnd && handle.scrollSize - offset - handle.viewportSize < STUCK_PX;
        look();
    };

    const toEnd = useCallback(
        () => list.current?.scrollToIndex(shown.length - 1, { align: "end" }),
        [shown.length],
    );

    // The first page: to the first unread message, or to the end.
    const hasBegun = useRef(false);
    useLayoutEffect(() => {
        if (hasBegun.current || shown.length === 0) return;
        hasBegun.current = true;
        if (at !== undefined) return;
        isStuck.current = firstUnread <= 0;
        if (isStuck.current) toEnd();
        else list.current?.scrollToIndex(firstUnread, { align: "start" });
    }, [shown.length, firstUnread, toEnd, at]);
    useLayoutEffect(() => {
        if (isStuck.current && at === undefined) toEnd();
    }, [shown, toEnd, at]);
    useLayoutEffect(() => {
        if (!isShift) return;
        isMoving.current = true;
        // Where there is nothing to scroll, no scroll follows.
        requestAnimationFrame(() => {
            isMoving.current = false;
            look();
        });
        // With the shift, and not with what else the look depends on.
    }, [isShift]);
    useEffect(look, [look]);
    useEffect(() => {
        window.addEventListener("focus", look);
        return () => window.removeEventListener("focus", look);
    }, [look]);

    // A jump: the page around the message, then the message itself.
    useEffect(() => {
        if (at === undefined || room.state !== "ready") return;
        const index = indexOf(shown, at);
        const row = shown[index];
        if (row && "message" in row && row.message.seq >= at && room.isShown(at)) {
            isStuck.current = false;
            list.current?.scrollToIndex(index, { align: "center" });
            setActive(row.key);
            onArrived(true);
            return;
        }
        let isCurrent = true;
        void room.goTo(at).then((isHere) => {
            if (isCurrent && !isHere) onArrived(false);
        });
        return () => void (isCurrent = false);
    }, [at, room, room.state, shown, onArrived]);

    const goToEnd = useCallback(() => {
        // A message that is still fetched would take the reader away again.
        if (at !== undefined) onArrived(true);
        isStuck.current = true;
        room.toEnd();
        toEnd();
    }, [at, onArrived, room, toEnd]);

    // What the user has just sent is seen, wherever they were.
    const sentCount = useRef(sends.textsOf(chat.chat).length);
    useEffect(() => {
        const count = sends.textsOf(chat.chat).length;
        const isNew = count > sentCount.current;
        sentCount.current = count;
        if (isNew) goToEnd();
    }, [sends, sends.version, chat.chat, goToEnd]);

    const move = (event: KeyboardEvent) => {
        const steps: Record<string, number> = {
            ArrowUp: -1,
            ArrowDown: 1,
            PageUp: -10,
            PageDown: 10,
            Home: -shown.length,
            End: shown.length,
        };
        const step = steps[event.key];
        if (step === undefined || (event.target as HTMLElement).closest("input, textarea, [role=menu]")) return;
        event.preventDefault();
        const from = shown.findIndex(({ key }) => key === active);
        const to = Math.max(0, Math.min(shown.length - 1, (from === -1 ? shown.length : from) + step));
        list.current?.scrollToIndex(to, { align: "nearest" });
        setActive(shown[to]?.key);
    };
    const activeIndex = shown.findIndex(({ key }) => key === active);
    const tabbable = activeIndex === -1 ? shown.length - 1 : activeIndex;
    return (
        <div className="timeline">
            {room.state === "loading" && <p className="hint">{t("loading")}</p>}
            {room.state === "ready" && shown.length === 0 && <p className="hint">{t("noMessages")}</p>}
            <VList
                ref={list}
                className="messages"
                style={COLUMN}
                role="feed"
                aria-label={t("messages")}
                aria-busy={room.state === "loading"}
                data={shown}
                shift={isShift}
                keepMounted={tabbable === -1 ? [] : [tabbable]}
                onScroll={onScroll}
                onResize={() => {
                    if (isStuck.current) toEnd();
                    // What fits on the screen is read without a scroll.
                    look();
                }}
                onKeyDown={move}
            >
                {/* What stands between the articles of a feed has no role of its own. */}
                {(row, index) => (
                    <div key={row.key} data-follow-up={row.isFollowUp}>
                        {row.isDayFirst && "message" in row && (
                            <div className="day">{texts.day(row.message.sent_at_ms, Date.now())}</div>
                        )}
                        {index === firstUnread && index > 0 && (
                            <div className="unread-from">{t("unreadFromHere")}</div>
                        )}
                        {"message" in row ? (
                            <Entry
                                chat={chat}
                                room={room}
                                message={row.message}
                                isFollowUp={row.isFollowUp}
                                isActive={row.key === active}
                                isTabbable={index === tabbable}
                                onActive={() => setActive(row.key)}
                                act={act}
                            />
                        ) : (
                            <SendingEntry sending={row.sending} />
                        )}
                    </div>
                )}
            </VList>
            {isFar && (
                <button type="button" className="to-end" onClick={goToEnd}>
                    <Icon name="down" />
                    <span className="visually-hidden">{t("toNewest")}</span>
                    {chat.watermarks.unread > 0 && (
                        <span className="badge">{texts.number(chat.watermarks.unread)}</span>
                    )}
                </button>
            )}
        </div>
    );
}

/** Returns whether rows came to the beginning of the list, or went from there: then it keeps its place from the end. */
function useIsShift(shown: readonly Row[]): boolean {
    const before = useRef<readonly Row[]>([]);
    const [first, formerFirst] = [shown[0]?.key, before.current[0]?.key];
    const isShift =
        first !== formerFirst &&
        first !== undefined &&
        formerFirst !== undefined &&
        (shown.some(({ key }) => key === formerFirst) || before.current.some(({ key }) => key === first));
    useEffect(() => {
        before.current = shown;
    }, [shown]);
    return isShift;
}

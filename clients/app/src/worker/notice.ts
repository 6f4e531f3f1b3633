// What a push says, as the service notification wrote it, and the notification that becomes of it.

/** The payload of a push: `Notice` of the service notification. */
export type Notice = {
    chat: string;
    kind: "direct" | "group" | "channel";
    title?: string;
    /** The last text. */
    seq: number;
    /** Absent when it is gone, or the user does not want texts. */
    message?: { sender: string; name: string; text: string; sent_at_ms: number };
    unread: number;
    mentions: number;
    /** What is unread in all chats. */
    badge: number;
};

/** The texts of the worker, by language: those of the page whose keys begin with `push.`. */
export type PushTexts = Record<string, Record<string, string | Record<string, string>>>;

/** Where a notification leads. */
export type NoticeData = { chat: string; seq: number };

/** Browsers have members that the types do not. */
export type Shown = {
    title: string;
    options: NotificationOptions & { renotify?: boolean; timestamp?: number };
};

const ICON = "/app/icon-192.png";
const CHAT = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** Reads a payload; nothing when it is of another release, or of no messenger. */
export function readNotice(text: string): Notice | undefined {
    try {
        const notice = JSON.parse(text) as Partial<Notice> | null;
        const isNotice =
            typeof notice === "object" &&
            notice !== null &&
            CHAT.test(String(notice.chat)) &&
            Number.isSafeInteger(notice.seq);
        return isNotice ? (notice as Notice) : undefined;
    } catch {
        return undefined;
    }
}

/** Returns what is shown of a push. A chat has one notification at a time, of the last text: the next one takes its place, and alerts again. */
export function shown(notice: Notice | undefined, texts: PushTexts, language: string): Shown {
    const tag = bestTag(texts, language);
    const unread = (count: number) => worded(texts, tag, "push.unread", count);
    const messenger = worded(texts, tag, "push.title", 1);
    if (!notice) return { title: messenger, options: { icon: ICON, lang: tag, tag: "posthouse" } };
    const { chat, seq, title, message } = notice;
    const who = [message?.name, title].filter((name) => name !== undefined && name !== "");
    return {
        title: who.length > 0 ? who.join(" · ") : messenger,
        options: {
            body: message?.text ?? unread(Math.max(1, notice.unread)),
            tag: chat,
            renotify: true,
            icon: ICON,
            lang: tag,
            data: { chat, seq } satisfies NoticeData,
            ...(message && { timestamp: message.sent_at_ms }),
        },
    };
}

/** Returns the address of a chat at a message, in the page. */
export function addressOf({ chat, seq }: NoticeData): string {
    return `/#/chat/${chat}?at=${seq}`;
}

function bestTag(texts: PushTexts, language: string): string {
    const short = language.split("-")[0]!;
    return [language, short, "en"].find((tag) => tag in texts) ?? "en";
}

function worded(texts: PushTexts, tag: string, key: string, count: number): string {
    const text = texts[tag]?.[key] ?? texts["en"]?.[key] ?? "";
    const chosen =
        typeof text === "string"
            ? text
            : (text[new Intl.PluralRules(tag).select(count)] ?? text["other"] ?? "");
    return chosen.replace("{count}", new Intl.NumberFormat(tag).format(count));
}

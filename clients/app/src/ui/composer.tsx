// Where the user writes: a draft that survives, files on their way, names of members to complete, and an edit of what was sent.
import {
    lazy,
    useEffect,
    useId,
    useLayoutEffect,
    useRef,
    useState,
    type ClipboardEvent,
    type KeyboardEvent,
    type ReactNode,
} from "react";
import type { Post } from "@posthouse/client";
import type { ChatState } from "../state/chats";
import type { Upload } from "../state/files";
import { useSource } from "../shared/source";
import type { Profile } from "../state/users";
import { plainText } from "../text/markup";
import {
    callsIn,
    callsOffered,
    completed,
    completions,
    mentionedIn,
    wordAt,
    type Call,
} from "../text/mentions";
import { usePage, useText, useWorkspace } from "./context";
import { Later } from "./later";
import { Menu } from "./menu";
import { useUserName } from "./names";
import { Icon, IconButton, Name } from "./parts";

const Schedule = lazy(() => import("./schedule"));

/** By the messenger: `max_body_bytes` of every connection. */
const MAX_BODY_BYTES = 16 * 1024;
const ENCODER = new TextEncoder();

/** What is written: a new message, or another text of one that was sent. */
export type Writing = { is: "new" } | { is: "edit"; seq: number; body: string };

type Props = {
    chat: ChatState;
    id: string;
    writing: Writing;
    onWriting: (writing: Writing) => void;
    /** All that is written here replies to this message, and no draft of it is kept. */
    thread?: number;
};

export function Composer({ chat, id, writing, onWriting, thread }: Props): ReactNode {
    const t = useText();
    const { config } = usePage();
    const workspace = useWorkspace();
    const { drafts, files } = workspace;
    const nameOf = useUserName();
    useSource(drafts);
    useSource(files);
    // The two texts that are no draft: an edit, and an answer in a thread.
    const [other, setOther] = useState("");
    const field = useRef<HTMLTextAreaElement>(null);
    const picker = useRef<HTMLInputElement>(null);
    const listId = useId();
    const members = useMembers(chat);
    const [caret, setCaret] = useState(0);
    const [chosen, setChosen] = useState(0);
    const [isClosed, setIsClosed] = useState(false);

    const isEdit = writing.is === "edit";
    const keepsDraft = !isEdit && thread === undefined;
    const draft = drafts.get(chat.chat);
    const body = keepsDraft ? draft.body : other;
    const replyTo = thread ?? (keepsDraft ? draft.replyTo : undefined);
    const quoted =
        replyTo === undefined || thread !== undefined ? undefined : workspace.room(chat.chat).get(replyTo);
    const uploads = isEdit || thread !== undefined ? [] : files.uploadsOf(chat.chat);
    const isTooLong = ENCODER.encode(body).length > MAX_BODY_BYTES;
    const isUploading = uploads.some(({ state }) => state === "sending");
    const isReady = uploads.some(({ state }) => state === "ready");
    const maySend = !isTooLong && !isUploading && (body.trim() !== "" || isReady);
    // Scheduled messages carry no files.
    const maySchedule = maySend && keepsDraft && uploads.length === 0;
    const [scheduled, setScheduled] = useState<Extract<Post, { kind: "text" }>>();
    const offered = isClosed ? [] : offersAt(body, caret, members, chat);

    useEffect(() => {
        if (!isEdit) return;
        setOther(writing.body);
        field.current?.focus();
    }, [isEdit, writing]);
    useLayoutEffect(() => {
        const element = field.current;
        if (!element) return;
        element.style.height = "auto";
        element.style.height = `${element.scrollHeight}px`;
    }, [body]);

    const write = (text: string) => {
        if (keepsDraft) drafts.set(chat.chat, { ...draft, body: text });
        else setOther(text);
        if (text !== "" && !isEdit) workspace.typing(chat.chat);
        setIsClosed(false);
        setChosen(0);
    };
    const stop = () => {
        setOther("");
        onWriting({ is: "new" });
    };
    /** Returns the text as it is written; its files come when it is sent. */
    const written = (): Extract<Post, { kind: "text" }> => {
        const text = body.trim();
        const mentions = mentionedIn(text, members);
        return {
            kind: "text",
            body: text,
            ...(replyTo !== undefined && { replyTo }),
            ...(mentions.length > 0 && { mentions }),
            ...(chat.kind !== "direct" && callsIn(text, members)),
        };
    };
    const clear = () => {
        if (keepsDraft) drafts.clear(chat.chat);
        else setOther("");
        field.current?.focus();
    };
    const send = (isSilent = false) => {
        if (!maySend) return;
        const post = written();
        if (isEdit) {
            if (post.body !== writing.body)
                workspace.send(chat.chat, { kind: "edit", seq: writing.seq, body: post.body });
            return stop();
        }
        const attachments = thread === undefined ? files.takeReady(chat.chat) : [];
        workspace.send(chat.chat, {
            ...post,
            ...(attachments.length > 0 && { attachments }),
            ...(isSilent && { silent: true }),
        });
        clear();
    };
    const complete = (offer: Offer) => {
        const next = completed(body, caret, "call" in offer ? offer.call : offer.username);
        write(next.text);
        setCaret(next.caret);
        requestAnimationFrame(() => field.current?.setSelectionRange(next.caret, next.caret));
    };
    const key = (event: KeyboardEvent<HTMLTextAreaElement>) => {
        // The key that ends a composition, as of Japanese, sends nothing.
        if (event.nativeEvent.isComposing) return;
        const candidate = offered[chosen];
        if (candidate) {
            const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
            if (step !== undefined) setChosen((chosen + step + offered.length) % offered.length);
            else if (event.key === "Enter" || event.key === "Tab") complete(candidate);
            else if (event.key === "Escape") setIsClosed(true);
            else return;
            return event.preventDefault();
        }
        if (event.key === "Escape" && isEdit) return stop();
        // A keyboard on the screen has no other key for a new line.
        if (event.key !== "Enter" || event.shiftKey || matchMedia("(pointer: coarse)").matches) return;
        event.preventDefault();
        send();
    };
    const paste = (event: ClipboardEvent) => {
        if (!config.services.includes("media") || event.clipboardData.files.length === 0) return;
        event.preventDefault();
        files.add(chat.chat, event.clipboardData.files);
    };
    const form = (
        <form
            className="composer"
            onSubmit={(event) => {
                event.preventDefault();
                send();
            }}
        >
            {isEdit && <Above label={t("editing")} text={writing.body} onClose={stop} />}
            {replyTo !== undefined && thread === undefined && (
                <Above
                    label={t("replyingTo", { name: quoted ? nameOf(quoted.sender) : "…" })}
                    text={quoted?.body ?? ""}
                    onClose={() => drafts.set(chat.chat, { body: draft.body })}
                />
            )}
            {uploads.length > 0 && (
                <ul className="uploads" aria-label={t("files")}>
                    {uploads.map((upload) => (
                        <UploadItem key={upload.id} chat={chat.chat} upload={upload} />
                    ))}
                </ul>
            )}
            {offered.length > 0 && (
                <ul className="completions" role="listbox" id={listId} aria-label={t("mentionWhom")}>
                    {offered.map((offer, at) => (
                        <li
                            key={"call" in offer ? offer.call : offer.user_id}
                            id={`${listId}-${at}`}
                            role="option"
                            aria-selected={at === chosen}
                            onPointerDown={(event) => {
                                event.preventDefault();
                                complete(offer);
                            }}
                        >
                            {"call" in offer ? (
                                <>
                                    @{offer.call}{" "}
                                    <span className="username">
                                        {t(`call.${offer.call}`, { count: chat.member_count })}
                                    </span>
                                </>
                            ) : (
                                <>
                                    <Name text={offer.display_name} />{" "}
                                    <span className="username">@{offer.username}</span>
                                </>
                            )}
                        </li>
                    ))}
                </ul>
            )}
            <div className="row">
                {config.services.includes("media") && !isEdit && thread === undefined && (
                    <>
                        <IconButton icon="attach" label={t("attach")} onClick={() => picker.current?.click()} />
                        <input
                            ref={picker}
                            type="file"
                            multiple
                            hidden
                            onChange={(event) => {
                                files.add(chat.chat, event.target.files ?? []);
                                event.target.value = "";
                            }}
                        />
                    </>
                )}
                <textarea
                    ref={field}
                    id={id}
                    rows={1}
                    dir="auto"
                    value={body}
                    aria-label={thread === undefined ? t("message") : t("replyInThread")}
                    placeholder={thread === undefined ? t("message") : t("replyInThread")}
                    aria-invalid={isTooLong}
                    {...(offered.length > 0 && {
                        "aria-controls": listId,
                        "aria-activedescendant": `${listId}-${chosen}`,
                    })}
                    onChange={(event) => {
                        write(event.target.value);
                        setCaret(event.target.selectionStart);
                    }}
                    onSelect={(event) => setCaret(event.currentTarget.selectionStart)}
                    onKeyDown={key}
                    onPaste={paste}
                />
                <button
                    type="submit"
                    className="icon-button primary"
                    aria-label={isEdit ? t("save") : t("send")}
                    title={isEdit ? t("save") : t("send")}
                    disabled={!maySend}
                >
                    <Icon name={isEdit ? "tick" : "send"} />
                </button>
                {!isEdit && maySend && (
                    <Menu
                        label={t("sendHow")}
                        items={[
                            { label: t("sendSilently"), icon: "mute", onChosen: () => send(true) },
                            maySchedule && {
                                label: t("schedule.title"),
                                icon: "clock",
                                onChosen: () => setScheduled(written()),
                            },
                        ]}
                    />
                )}
            </div>
            {isTooLong && (
                <p className="error" role="alert">
                    {t("tooLong")}
                </p>
            )}
        </form>
    );
    return (
        <>
            {form}
            {scheduled && (
                <Later title={t("schedule.title")} onClose={() => setScheduled(undefined)}>
                    <Schedule
                        chat={chat.chat}
                        post={scheduled}
                        onClose={() => setScheduled(undefined)}
                        onScheduled={() => {
                            setScheduled(undefined);
                            clear();
                        }}
                    />
                </Later>
            )}
        </>
    );
}

function Above({ label, text, onClose }: { label: string; text: string; onClose: () => void }): ReactNode {
    const t = useText();
    return (
        <div className="above">
            <strong>{label}</strong> <bdi>{plainText(text)}</bdi>
            <IconButton icon="close" label={t("cancel")} onClick={onClose} />
        </div>
    );
}

function UploadItem({ chat, upload }: { chat: string; upload: Upload }): ReactNode {
    const t = useText();
    const { texts } = usePage();
    const { files } = useWorkspace();
    const { id, name, size, sentBytes, state, preview, refusal } = upload;
    return (
        <li data-state={state}>
            {preview ? <img src={preview} alt="" /> : <Icon name="file" />}
            <bdi id={`upload-${id}`} className="file-name">
                {name}
            </bdi>
            {state === "sending" && (
                <progress max={size || 1} value={sentBytes} aria-label={t("uploading", { name })} />
            )}
            {state === "ready" && <span>{texts.size(size)}</span>}
            {state === "refused" && (
                <span role="alert">{t(refusal ? `refusal.${refusal}` : "fileRefused")}</span>
            )}
            {state === "failed" && (
                <button type="button" aria-describedby={`upload-${id}`} onClick={() => files.retry(chat, id)}>
                    {t("tryAgain")}
                </button>
            )}
            <IconButton icon="close" label={t("removeFile", { name })} onClick={() => files.remove(chat, id)} />
        </li>
    );
}

/** What completes a name: that of a member, or a word that calls many. */
type Offer = Profile | { call: Call };

function offersAt(body: string, caret: number, members: readonly Profile[], chat: ChatState): Offer[] {
    const word = wordAt(body, caret);
    // Two who talk call no one else.
    const calls = chat.kind === "direct" ? [] : callsOffered(word, members);
    return [...completions(word, members), ...calls.map((call) => ({ call }))];
}

/** Returns the other members of a group, as far as they are known; they are fetched with the first message that is written. */
function useMembers(chat: ChatState): Profile[] {
    const workspace = useWorkspace();
    const { users, user } = workspace;
    useSource(users);
    const [ids, setIds] = useState<string[]>([]);
    useEffect(() => {
        if (chat.kind === "direct") return;
        let isCurrent = true;
        workspace.members(chat.chat).then(
            (members) => isCurrent && setIds(members.map(({ user_id }) => user_id)),
            // Names are completed another time.
            () => undefined,
        );
        return () => void (isCurrent = false);
    }, [workspace, chat.chat, chat.kind, chat.member_count]);
    return ids.flatMap((id) => (id === user ? [] : (users.get(id) ?? [])));
}

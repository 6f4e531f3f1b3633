// What a chat is called and for, and how its texts come and go.
import { groups, type chat } from "@posthouse/client";
import { useEffect, useId, useState, type ReactNode } from "react";
import { go, href } from "../place";
import type { ChatState } from "../state/chats";
import { useSource } from "../shared/source";
import { ChatAvatar } from "./avatar";
import { Confirm } from "./confirm";
import { usePage, useText, useWorkspace } from "./context";
import { useChatName } from "./names";
import { Area, Dialog, ErrorText, Field, Name, SavedForm, Select, useCall } from "./parts";
import { PicturePicker } from "./picture-picker";
import { manages, maySetExpiry } from "./rights";

const EXPIRIES = [0, 3_600, 86_400, 604_800, 2_592_000, 7_776_000] as const;
const PAUSES = [0, 10, 30, 60, 300, 900, 3_600] as const;
/** By the messenger. */
const MAX_TITLE_CHARACTERS = 128;
const MAX_TOPIC_CHARACTERS = 500;

export default function AboutChat({ chat: id, onClose }: { chat: string; onClose: () => void }): ReactNode {
    const workspace = useWorkspace();
    const state = useSource(workspace.chats).get(id);
    return state ? <About chat={state} onClose={onClose} /> : null;
}

function About({ chat, onClose }: { chat: ChatState; onClose: () => void }): ReactNode {
    const t = useText();
    const { config } = usePage();
    const workspace = useWorkspace();
    const name = useChatName()(chat);
    const { chat: id } = chat;
    const isManager = manages(chat);
    const [asks, setAsks] = useState<"leave" | "delete">();
    return (
        <Dialog title={t("about.title")} onClose={onClose}>
            {isManager && config.services.includes("media") ? (
                <PicturePicker
                    onChosen={(picture) => workspace.setChatPicture(id, picture)}
                    onRemoved={async () => void (await groups.update(workspace.identity, id, { avatar: "" }))}
                >
                    <ChatAvatar chat={chat} name={name} />
                </PicturePicker>
            ) : (
                <div className="row">
                    <ChatAvatar chat={chat} name={name} />
                    <Name text={name} />
                </div>
            )}
            {isManager ? <Words chat={chat} /> : chat.topic && <p dir="auto">{chat.topic}</p>}
            {chat.kind !== "direct" && (
                <a href={href({ chat: id, panel: "members" })}>{t("members", { count: chat.member_count })}</a>
            )}
            {maySetExpiry(chat) && (
                <Choice
                    label={t("expiry.title")}
                    hint={t("expiry.explained")}
                    values={EXPIRIES}
                    value={chat.message_ttl_seconds ?? 0}
                    none={t("expiry.none")}
                    onChosen={(seconds) => ({ message_ttl_seconds: seconds })}
                    chat={id}
                />
            )}
            {isManager && (
                <Choice
                    label={t("slowMode.title")}
                    hint={t("slowMode.explained")}
                    values={PAUSES}
                    value={chat.slow_mode_seconds ?? 0}
                    none={t("slowMode.none")}
                    onChosen={(seconds) => ({ slow_mode_seconds: seconds })}
                    chat={id}
                />
            )}
            {isManager && <Access chat={chat} />}
            <div className="row">
                <button type="button" className="danger" onClick={() => setAsks("leave")}>
                    {t("leave")}
                </button>
                {chat.kind !== "direct" && chat.role === "owner" && (
                    <button type="button" className="danger" onClick={() => setAsks("delete")}>
                        {t("about.delete")}
                    </button>
                )}
            </div>
            {asks !== undefined && (
                <Confirm
                    title={t(asks === "leave" ? "leave" : "about.delete")}
                    text={t(
                        asks === "delete"
                            ? "about.deleteExplained"
                            : chat.kind === "direct"
                              ? "about.leaveDirect"
                              : "about.leaveExplained",
                        { name },
                    )}
                    action={t(asks === "leave" ? "leave" : "about.delete")}
                    onConfirmed={async () => {
                        if (asks === "leave") await workspace.leave(id);
                        else await groups.remove(workspace.identity, id);
                        go({}, true);
                    }}
                    onClose={() => setAsks(undefined)}
                />
            )}
        </Dialog>
    );
}

/** The title and the topic. */
function Words({ chat }: { chat: ChatState }): ReactNode {
    const t = useText();
    const { identity } = useWorkspace();
    const save = async (form: FormData) => {
        const [title, topic] = [String(form.get("title")).trim(), String(form.get("topic")).trim()];
        const request: chat.UpdateChatRequest = {
            ...(title !== (chat.title ?? "") && { title }),
            ...(topic !== (chat.topic ?? "") && { topic }),
        };
        if (Object.keys(request).length > 0) await groups.update(identity, chat.chat, request);
    };
    return (
        <SavedForm save={save}>
            <Field
                label={t("groupTitle")}
                name="title"
                required
                dir="auto"
                maxLength={MAX_TITLE_CHARACTERS}
                defaultValue={chat.title}
            />
            <Area
                label={t("about.topic")}
                name="topic"
                rows={2}
                dir="auto"
                maxLength={MAX_TOPIC_CHARACTERS}
                defaultValue={chat.topic}
            />
        </SavedForm>
    );
}

type ChoiceProps = {
    label: string;
    hint: string;
    /** In seconds; 0 is none. */
    values: readonly number[];
    value: number;
    none: string;
    onChosen: (seconds: number) => chat.UpdateChatRequest;
    chat: string;
};

/** A time span that is set at once. What another client set stays among the choices. */
function Choice({ label, hint, values, value, none, onChosen, chat }: ChoiceProps): ReactNode {
    const { texts } = usePage();
    const { identity } = useWorkspace();
    const { isBusy, error, run } = useCall();
    const id = useId();
    const offered = values.includes(value) ? values : [...values, value].sort((one, other) => one - other);
    return (
        <div className="field">
            <label htmlFor={id}>{label}</label>
            <select
                id={id}
                value={value}
                disabled={isBusy}
                aria-describedby={`${id}-hint`}
                onChange={({ target }) =>
                    run(async () => void (await groups.update(identity, chat, onChosen(Number(target.value)))))
                }
            >
                {offered.map((seconds) => (
                    <option key={seconds} value={seconds}>
                        {seconds === 0 ? none : texts.span(seconds)}
                    </option>
                ))}
            </select>
            <small id={`${id}-hint`} className="hint">
                {hint}
            </small>
            <ErrorText error={error} />
        </div>
    );
}

/** Who finds the group, and what those read who come later. No entry says it: it is fetched. */
function Access({ chat: { chat: id, role } }: { chat: ChatState }): ReactNode {
    const t = useText();
    const { identity } = useWorkspace();
    const [known, setKnown] = useState<chat.Chat>();
    const { isBusy, error, run } = useCall();
    useEffect(() => run(async () => setKnown(await groups.chat(identity, id))), [identity, id]);
    const set = (request: chat.UpdateChatRequest) =>
        run(async () => setKnown(await groups.update(identity, id, request)));
    if (!known) return <ErrorText error={error} />;
    return (
        <>
            <Select
                label={t("history.title")}
                value={known.history ?? "from_entry"}
                disabled={isBusy}
                onChange={({ target }) => set({ history: target.value as chat.HistoryAccess })}
            >
                <option value="from_entry">{t("history.from_entry")}</option>
                <option value="all">{t("history.all")}</option>
            </Select>
            <Select
                label={t("visibility.title")}
                value={known.visibility ?? "private"}
                disabled={isBusy || role !== "owner"}
                onChange={({ target }) => set({ visibility: target.value as chat.Visibility })}
            >
                <option value="private">{t("visibility.private")}</option>
                <option value="public">{t("visibility.public")}</option>
            </Select>
            <ErrorText error={error} />
        </>
    );
}

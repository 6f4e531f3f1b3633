// What the user has scheduled in a chat: to change, to send at once, or to call off.
import type { chat } from "@posthouse/client";
import { useId, useState, type ReactNode } from "react";
import { useRead } from "../shared/call";
import { useSource } from "../shared/source";
import { usePage, useText, useWorkspace } from "./context";
import { isPossible, MomentField } from "./moment-field";
import { fromField, toField } from "./moments";
import { Area, codeKey, Dialog, ErrorText, useCall } from "./parts";

export default function Scheduled({ chat: id, onClose }: { chat: string; onClose: () => void }): ReactNode {
    const t = useText();
    const workspace = useWorkspace();
    const { identity } = workspace;
    // Each change of one of them is a new version, by whichever device.
    const version = useSource(workspace.chats).get(id)?.own.version;
    const { value: messages, error, reload } = useRead(() => identity.scheduled(id), [identity, id, version]);
    return (
        <Dialog title={t("scheduled.title")} onClose={onClose}>
            <ErrorText error={error} />
            {messages?.length === 0 && <p className="hint">{t("scheduled.none")}</p>}
            <ul className="scheduled" aria-busy={messages === undefined}>
                {messages?.map((message) => (
                    <li key={message.key}>
                        <Item message={message} onChanged={reload} />
                    </li>
                ))}
            </ul>
        </Dialog>
    );
}

type ItemProps = { message: chat.ScheduledMessage; onChanged: () => Promise<void> };

function Item({ message, onChanged }: ItemProps): ReactNode {
    const t = useText();
    const { texts } = usePage();
    const { identity } = useWorkspace();
    const [isEdited, setIsEdited] = useState(false);
    const { isBusy, error, run } = useCall();
    const { chat_id, key, body, send_at_ms, put_off_until_ms, refused } = message;
    const id = useId();
    const act = (call: () => Promise<unknown>) =>
        run(async () => {
            await call();
            await onChanged();
        });
    return (
        <>
            <p id={id} dir="auto">
                {body}
            </p>
            <p className="hint">
                <time dateTime={new Date(send_at_ms).toISOString()}>{texts.date(send_at_ms)}</time>
                {put_off_until_ms != null &&
                    ` · ${t("scheduled.putOff", { when: texts.date(put_off_until_ms) })}`}
            </p>
            {refused != null && (
                <p className="error">
                    {t("state.refused")} {t(codeKey(refused))}
                </p>
            )}
            <ErrorText error={error} />
            {isEdited ? (
                <Edit
                    message={message}
                    isBusy={isBusy}
                    onCancelled={() => setIsEdited(false)}
                    onChanged={(request) =>
                        act(async () => {
                            await identity.reschedule(chat_id, key, request);
                            setIsEdited(false);
                        })
                    }
                />
            ) : (
                <div className="row">
                    <button
                        type="button"
                        aria-describedby={id}
                        disabled={isBusy}
                        onClick={() => setIsEdited(true)}
                    >
                        {t("edit")}
                    </button>
                    <button
                        type="button"
                        aria-describedby={id}
                        disabled={isBusy}
                        onClick={() => act(() => identity.sendScheduled(chat_id, key))}
                    >
                        {t("scheduled.sendNow")}
                    </button>
                    <button
                        type="button"
                        className="danger"
                        aria-describedby={id}
                        disabled={isBusy}
                        onClick={() => act(() => identity.cancelScheduled(chat_id, key))}
                    >
                        {t("scheduled.cancel")}
                    </button>
                </div>
            )}
        </>
    );
}

type EditProps = {
    message: chat.ScheduledMessage;
    isBusy: boolean;
    onCancelled: () => void;
    onChanged: (request: chat.RescheduleRequest) => void;
};

/** Another text, or another time. What else the message has stays: it is replaced as a whole. */
function Edit({ message, isBusy, onCancelled, onChanged }: EditProps): ReactNode {
    const t = useText();
    const [body, setBody] = useState(message.body);
    const [value, setValue] = useState(toField(message.send_at_ms));
    const atMs = fromField(value);
    const change = () => {
        if (!isPossible(atMs, Date.now())) return;
        const { reply_to, mentions, mention_all, mention_here, mention_roles, silent } = message;
        const roles = mention_roles?.filter((role) => role !== "member");
        onChanged({
            body: body.trim(),
            send_at_ms: atMs,
            ...(reply_to != null && { reply_to }),
            ...(mentions && { mentions }),
            ...(mention_all && { mention_all }),
            ...(mention_here && { mention_here }),
            ...(roles && { mention_roles: roles }),
            ...(silent && { silent }),
        });
    };
    return (
        <form
            onSubmit={(event) => {
                event.preventDefault();
                change();
            }}
        >
            <Area
                label={t("message")}
                dir="auto"
                required
                value={body}
                onChange={(event) => setBody(event.target.value)}
            />
            <MomentField value={value} onChange={setValue} />
            <div className="row">
                <button
                    type="submit"
                    className="primary"
                    disabled={isBusy || body.trim() === "" || !isPossible(atMs, Date.now())}
                >
                    {t("save")}
                </button>
                <button type="button" onClick={onCancelled}>
                    {t("cancel")}
                </button>
            </div>
        </form>
    );
}

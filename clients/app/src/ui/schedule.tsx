// A message is written now and sent later.
import type { Post } from "@posthouse/client";
import { useRef, useState, type ReactNode } from "react";
import { usePage, useText, useWorkspace } from "./context";
import { isPossible, MomentField } from "./moment-field";
import { fromField, offeredMoments, toField } from "./moments";
import { Dialog, ErrorText, useCall } from "./parts";

type Props = {
    chat: string;
    post: Extract<Post, { kind: "text" }>;
    onClose: () => void;
    onScheduled: () => void;
};

export default function Schedule({ chat, post, onClose, onScheduled }: Props): ReactNode {
    const t = useText();
    const { texts, say } = usePage();
    const { identity } = useWorkspace();
    const [value, setValue] = useState(() => toField(offeredMoments(Date.now()).hour));
    const { isBusy, error, run } = useCall();
    // A request that is repeated after a fault schedules once.
    const key = useRef(crypto.randomUUID());
    const atMs = fromField(value);
    const schedule = async () => {
        if (atMs === undefined) return;
        await identity.schedule(chat, {
            key: key.current,
            body: post.body,
            send_at_ms: atMs,
            ...(post.replyTo !== undefined && { reply_to: post.replyTo }),
            ...(post.mentions && { mentions: post.mentions }),
            ...(post.mentionAll && { mention_all: true }),
            ...(post.mentionHere && { mention_here: true }),
            ...(post.mentionRoles && { mention_roles: post.mentionRoles }),
            ...(post.silent && { silent: true }),
        });
        say(t("schedule.done", { when: texts.date(atMs) }));
        onScheduled();
    };
    return (
        <Dialog title={t("schedule.title")} onClose={onClose}>
            <form
                aria-busy={isBusy}
                onSubmit={(event) => {
                    event.preventDefault();
                    if (isPossible(atMs, Date.now())) run(schedule);
                }}
            >
                <blockquote dir="auto">{post.body}</blockquote>
                <MomentField value={value} onChange={setValue} />
                <ErrorText error={error} />
                <button type="submit" className="primary" disabled={isBusy || !isPossible(atMs, Date.now())}>
                    {t("schedule.send")}
                </button>
            </form>
        </Dialog>
    );
}

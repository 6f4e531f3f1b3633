// What a program adds to a chat's log.
import type { Commands, Message, Stored } from "./generated/socket.js";

/** An entry that a program sends; `seq` is that of the message it speaks of. A plain string is a text. */
export type Post =
    | {
          kind: "text";
          body: string;
          replyTo?: number;
          mentions?: string[];
          mentionAll?: boolean;
          mentionRoles?: Array<"owner" | "admin">;
          mentionHere?: boolean;
          silent?: boolean;
          /** Files that the user has uploaded for this chat. Beside them `body` may be empty. */
          attachments?: string[];
      }
    /** The text and the files of a message of this or another chat. */
    | { kind: "forward"; fromChat: string; fromSeq: number }
    /** The texts of a range: of `sender`; or of everyone, as the owner or an admin, and one's own elsewhere. */
    | { kind: "delete_range"; fromSeq: number; toSeq: number; sender?: string }
    | { kind: "edit"; seq: number; body: string }
    | { kind: "delete"; seq: number }
    | { kind: "react"; seq: number; emoji: string; remove?: boolean }
    | { kind: "pin"; seq: number; remove?: boolean };

/** What answers a text: `accepted` once it is in the log, and its seq behind it, or its seq alone. */
export type Ack = NonNullable<Commands["send"]["ack"]>;

/** Returns whether a post may be answered by its seq alone. */
export function takesAck(post: Post): boolean {
    return post.kind === "text";
}

/** A command with its arguments. */
export type Command = { [Name in keyof Commands]: Record<Name, Commands[Name]> }[keyof Commands];

/** Returns the command that sends a post, with an answer of this kind where it takes one. */
export function command(post: Post, chat: string, key: string, ack: Ack = "accepted"): Command {
    switch (post.kind) {
        case "text": {
            const send: Commands["send"] = { chat, key, body: post.body };
            if (post.replyTo !== undefined) send.reply_to = post.replyTo;
            if (post.mentions?.length) send.mentions = post.mentions;
            if (post.mentionAll) send.mention_all = true;
            if (post.mentionRoles?.length) send.mention_roles = post.mentionRoles;
            if (post.mentionHere) send.mention_here = true;
            if (post.silent) send.silent = true;
            if (post.attachments?.length) send.attachments = post.attachments;
            if (ack !== "accepted") send.ack = ack;
            return { send };
        }
        case "forward":
            return { forward: { chat, key, from_chat: post.fromChat, from_seq: post.fromSeq } };
        case "delete_range":
            return {
                delete_range: {
                    chat,
                    key,
                    from_seq: post.fromSeq,
                    to_seq: post.toSeq,
                    ...(post.sender !== undefined && { sender: post.sender }),
                },
            };
        case "edit":
            return { edit: { chat, key, seq: post.seq, body: post.body } };
        case "delete":
            return { delete: { chat, key, seq: post.seq } };
        case "react":
            return {
                react: { chat, key, seq: post.seq, emoji: post.emoji, ...(post.remove && { remove: true }) },
            };
        case "pin":
            return { pin: { chat, key, seq: post.seq, ...(post.remove && { remove: true }) } };
    }
}

/** Returns the entry that a post became; none when the messenger has added what is not known here. */
export function entry(post: Post, sender: string, stored: Stored, sentAtMs: number): Message | undefined {
    const { chat, key, seq, expires_at_ms } = stored;
    const base = {
        ...{ chat, seq, sender, key, sent_at_ms: sentAtMs },
        ...(expires_at_ms !== undefined && { expires_at_ms }),
    };
    switch (post.kind) {
        case "forward":
        case "delete_range":
            return undefined;
        case "text":
            // Who of them is a member, who has a role, and what the files are.
            if (post.mentions?.length || post.mentionRoles?.length || post.attachments?.length)
                return undefined;
            return {
                ...base,
                kind: "text",
                body: post.body,
                ...(post.replyTo !== undefined && { target_seq: post.replyTo }),
                ...(post.mentionAll && { mentions_all: true }),
                ...(post.mentionHere && { mentions_here: true }),
                ...(post.silent && { silent: true }),
            };
        case "edit":
            return { ...base, kind: "edit", body: post.body, target_seq: post.seq };
        case "delete":
            return { ...base, kind: "delete", body: "", target_seq: post.seq };
        case "react":
            return {
                ...base,
                kind: post.remove ? "reaction_removed" : "reaction",
                body: post.emoji,
                target_seq: post.seq,
            };
        case "pin":
            return { ...base, kind: post.remove ? "unpin" : "pin", body: "", target_seq: post.seq };
    }
}

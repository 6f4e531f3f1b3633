/**
 * A small client of one tenant's messenger: REST and a WebSocket session.
 *
 * A session reconnects by itself, repeats what was not stored under the same key, and hands out every entry of a followed chat once
 * and in order, whatever the push path lost or doubled.
 */
export * as account from "./account.js";
export { addChange, deletions, type Change, type Deletion } from "./changes.js";
export { ChatList } from "./chats.js";
export type { Encoding } from "./codec.js";
export * as contacts from "./contacts.js";
export * as files from "./files.js";
export * as auth from "./generated/auth.js";
export * as chat from "./generated/chat.js";
export * as media from "./generated/media.js";
export * as moderation from "./generated/moderation.js";
export * as notification from "./generated/notification.js";
export * as search from "./generated/search.js";
export * as socket from "./generated/socket.js";
export * as user from "./generated/user.js";
export * as groups from "./groups.js";
export { newKey } from "./key.js";
export { BackOff, ending, Pulse, Wakes, type Ending } from "./link.js";
export {
    Machine,
    type ErrorCode,
    type Event,
    type Origin,
    type Outgoing,
    type Output,
    type SendState,
} from "./machine.js";
export { CallError, Identity, Messenger, type Issuer } from "./messenger.js";
export { MemoryOutbox, type Outbox } from "./outbox.js";
export type { Ack, Post } from "./post.js";
export { Realm, type Begun } from "./realm.js";
export * as reports from "./reports.js";
export { QueryError, SendError, Session, type Receipt, type SessionOptions } from "./session.js";
export { Timeline } from "./timeline.js";
export { View } from "./view.js";

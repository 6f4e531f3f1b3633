// All that a signed-in page knows of the messenger. Each part has one home here, and components read it there.
import {
    ChatList,
    account,
    CallError,
    files,
    groups,
    Session,
    type Identity,
    type Post,
    type auth,
    type chat,
    type search,
    type socket,
    type user,
} from "@posthouse/client";
import { DEVICE_KEY, forgetUser } from "../forget";
import { Avatars } from "./avatars";
import { Chats, Connection } from "./chats";
import { Contacts } from "./contacts";
import { Drafts } from "./drafts";
import { Files } from "./files";
import { Kept, type Extent } from "./kept";
import { ListKeeper } from "./list-keeper";
import { Notices } from "./notices";
import { Pins } from "./pins";
import { Previews } from "./previews";
import { Push } from "./push";
import { Room } from "./room";
import { Self } from "./self";
import { Sends } from "./sends";
import { Standing } from "./standing";
import { Tabs } from "./tabs";
import { Users } from "./users";

/** The code that a connection is closed with when its session was ended, here or elsewhere. */
const SESSION_ENDED = 3505 satisfies keyof typeof socket.CLOSE_CODES;
/** Users whose presence is watched beside those of the chat that is open. */
const MAX_WATCHED = 100;
const EXPIRE_EVERY_MS = 1_000;
const TYPING_EVERY_MS = 3_000;
const REFRESH_EVERY_MS = 300_000;
/** Nothing is pushed of what moderators decide: who comes back, opens a chat or begins to write learns of it, and not by a refusal. */
const STANDING_EVERY_MS = 30_000;

/** A message of another user that the page did not show. */
export type News = { message: socket.Message; chat: socket.ChatState };

/** Chats of the user, and users who have no direct chat among them. */
export type Named = { chats: search.FoundChat[]; users: search.FoundUser[] };

export class Workspace {
    readonly connection = new Connection();
    readonly chats: Chats;
    readonly users: Users;
    readonly files: Files;
    readonly sends: Sends;
    readonly drafts: Drafts;
    readonly notices: Notices;
    readonly push: Push;
    readonly self: Self;
    readonly avatars: Avatars;
    readonly contacts: Contacts;
    readonly pins: Pins;
    readonly previews: Previews;
    readonly standing: Standing;
    onNews: (news: News) => void = () => undefined;
    /** How much this browser has forgotten of the user, since the sign-in was ended elsewhere or is too old. */
    forgotten: Extent | undefined;
    readonly #session: Session;
    readonly #kept: Kept;
    readonly #tabs: Tabs;
    readonly #keeper: ListKeeper;
    readonly #rooms = new Map<string, Room>();
    readonly #timer: ReturnType<typeof setInterval>;
    #open: string | undefined;
    /** Whether the list is that of this connection, and not the one of an earlier page, whose chats may have grown by thousands of entries. */
    #isCurrent: boolean;
    #typedAt = -Infinity;
    #refreshedAt = -Infinity;
    /** Absent until it was asked for with a connection. */
    #standingAt: number | undefined;
    readonly #services: readonly string[];

    private constructor(
        readonly identity: Identity,
        me: user.OwnProfile,
        kept: Kept,
        tabs: Tabs,
        earlier: Awaited<ReturnType<typeof keptOf>>,
        services: readonly string[],
    ) {
        this.#kept = kept;
        this.#tabs = tabs;
        this.#services = services;
        this.chats = new Chats(identity.user);
        this.users = new Users(identity);
        this.avatars = new Avatars(identity);
        this.self = new Self(identity, me, this.users, this.avatars);
        this.#isCurrent = earlier.list === undefined;
        if (earlier.list) {
            this.users.recall(earlier.list.profiles);
            this.chats.recall(earlier.list, Date.now());
        }
        this.#keeper = new ListKeeper(kept, this.chats, this.users, tabs);
        this.contacts = new Contacts(identity);
        this.previews = new Previews(identity);
        this.standing = new Standing(identity);
        this.files = new Files(identity);
        this.notices = new Notices(identity);
        this.push = new Push(identity);
        this.drafts = new Drafts(identity, kept, earlier.drafts);
        this.drafts.recall(earlier.list?.chats ?? []);
        this.#session = new Session(identity, {
            ...{ device: device(), outbox: kept, encoding: "cbor" },
            ...(earlier.list && { cursor: earlier.list.cursor }),
        });
        this.pins = new Pins(this.#session);
        this.sends = new Sends(this.#session, kept, earlier);
        this.#listen();
        this.#timer = setInterval(() => this.#expire(), EXPIRE_EVERY_MS);
    }

    /** Opens the messenger for a user who is signed in. `services` are those that the tenant has. */
    static async open(identity: Identity, services: readonly string[]): Promise<Workspace> {
        const tabs = await Tabs.open(identity.user);
        const kept = await Kept.open(identity.user, tabs);
        const known = await kept.me().catch(() => undefined);
        const asked: Promise<user.OwnProfile> = identity.call("GET", "/api/users/me");
        asked.catch(() => undefined);
        const me = known ?? (await asked);
        const workspace = new Workspace(identity, me, kept, tabs, await keptOf(kept), services);
        // Where the list is here, nothing waits for the messenger.
        asked.then(
            (me) => {
                workspace.self.take(me);
                kept.keepMe(me).catch(() => undefined);
            },
            () => undefined,
        );
        return workspace;
    }

    get user(): string {
        return this.identity.user;
    }

    get me(): user.OwnProfile {
        return this.self.profile;
    }

    /** Ends the session of this page. */
    close(): void {
        clearInterval(this.#timer);
        this.#session.close();
        this.#leave();
    }

    /** Writes what is kept, before the page goes away. */
    rest(): void {
        void this.#keeper.flush();
    }

    /**
     * Ends the session at the messenger, and forgets what this browser kept of the user. The latter happens in any case: a `CallError` says that
     * the session at the messenger goes on.
     */
    async signOut(): Promise<void> {
        try {
            // While there is a token: a browser without a user gets no pushes.
            await this.push.end().catch(() => undefined);
            await this.identity.signOut();
        } catch (error) {
            // What the messenger does not take any more is over there.
            if (!(error instanceof CallError) || error.status !== 401) throw error;
        } finally {
            await this.#forget("all");
        }
    }

    /** Ends this page, and removes what this browser kept of the user. */
    async #forget(extent: Extent): Promise<void> {
        // Both would write once more.
        this.#keeper.close();
        this.close();
        this.#kept.close();
        await forgetUser(this.user, extent);
    }

    /** Deletes the account, and what this browser kept of it. `self.receipt` says so to the page. */
    async deleteAccount(password: string): Promise<void> {
        await this.self.delete(password);
        await this.push.end().catch(() => undefined);
        await this.#forget("all");
    }

    /** Returns a chat as it is read; it is empty until the list has the chat. */
    room(id: string): Room {
        const room = this.#rooms.get(id) ?? new Room(id, this.user, this.#session);
        this.#rooms.set(id, room);
        const state = this.chats.get(id);
        if (state && this.#isCurrent) room.open(state.from_seq, state.head_seq);
        return room;
    }

    /** Says which chat is on the screen. */
    attend(id: string | undefined): void {
        this.#open = id;
        this.#watch();
        this.#renewStanding();
    }

    /** Says that the user has seen a chat up to an entry. */
    read(id: string, seq: number): void {
        if (seq > (this.chats.get(id)?.watermarks.read_seq ?? 0)) this.#session.read(id, seq);
    }

    activity(state: "online" | "away"): void {
        this.#session.activity(state);
        if (state === "online") this.#renewStanding();
    }

    /** Has the connection looked after, or tried again at once; as often as there is a reason to. */
    wake(): void {
        this.#session.wake();
    }

    /** Says that the user types; as often as a key is pressed. */
    typing(id: string): void {
        const now = performance.now();
        if (now - this.#typedAt < TYPING_EVERY_MS) return;
        this.#typedAt = now;
        this.#session.typing(id);
        this.#renewStanding();
    }

    send(id: string, post: Post): void {
        this.#typedAt = -Infinity;
        this.sends.send(id, post);
    }

    replies(id: string, seq: number, after?: number): Promise<socket.ListPage> {
        return this.#session.replies(id, seq, after === undefined ? {} : { after });
    }

    async createChat(request: chat.CreateChatRequest): Promise<string> {
        const { chat_id } = await this.identity.createChat(request);
        // Nothing is pushed of a chat without entries.
        this.#session.sync();
        return chat_id;
    }

    /** Joins a public chat, which the list has in a moment. */
    async join(id: string): Promise<void> {
        await groups.join(this.identity, id);
        this.#session.sync();
    }

    /** Joins by an invite link. Returns the chat, and nothing where an owner or admin decides about it. */
    async joinByInvite(code: string): Promise<string | undefined> {
        const joined = await groups.joinByInvite(this.identity, code);
        if (!("kind" in joined)) return undefined;
        this.#session.sync();
        return joined.chat_id;
    }

    /** Shows another picture of a group to its members. Throws a `FileError` when the messenger does not take it. */
    async setChatPicture(id: string, picture: File): Promise<void> {
        const file = await files.upload(this.identity, { chat_picture: id }, picture, picture.name);
        await groups.update(this.identity, id, { avatar: file.id });
    }

    members(id: string): Promise<chat.ChatMember[]> {
        return groups.members(this.identity, id);
    }

    addMembers(id: string, users: string[]): Promise<chat.AddedMembers> {
        return groups.addMembers(this.identity, id, users);
    }

    removeMember(id: string, user: string): Promise<void> {
        return groups.removeMember(this.identity, id, user);
    }

    leave(id: string): Promise<void> {
        return groups.leave(this.identity, id);
    }

    async updateOwn(id: string, request: chat.UpdateOwnChatStateRequest): Promise<void> {
        await this.identity.updateOwnState(id, request);
    }

    /** Returns users whose names begin so: by the service search where there is one, which finds every word of a name. */
    async findUsers(query: string): Promise<search.FoundUser[]> {
        try {
            return await this.identity.findUsers(query);
        } catch (error) {
            if (!(error instanceof CallError) || error.status !== 404) throw error;
            const page: user.Page_UserProfile = await this.identity.call(
                "GET",
                `/api/users?query=${encodeURIComponent(query)}`,
            );
            return page.items.filter((found) => !found.deleted);
        }
    }

    searchMessages(query: string, cursor?: string): Promise<search.FoundMessages> {
        return this.identity.searchMessages(query, cursor);
    }

    /** Returns what has such names. What is no name, as a phrase in marks alone or a long text, names nothing. */
    async searchNames(query: string): Promise<Named> {
        try {
            const [chats, users] = await Promise.all([
                this.identity.findChats(query),
                this.identity.findUsers(query),
            ]);
            const known = [this.user, ...chats.flatMap(({ other }) => other ?? [])];
            return { chats, users: users.filter(({ user_id }) => !known.includes(user_id)) };
        } catch (error) {
            if (error instanceof CallError && error.code === "invalid_argument")
                return { chats: [], users: [] };
            throw error;
        }
    }

    sessions(): Promise<auth.AuthSession[]> {
        return account.sessions(this.identity);
    }

    endSession(session: string): Promise<void> {
        return account.endSession(this.identity, session);
    }

    endOtherSessions(): Promise<void> {
        return account.endOtherSessions(this.identity);
    }

    /** What this tab has not sent, another one may, and go on with the list. */
    #leave(): void {
        void this.#keeper.flush().then(() => {
            this.#keeper.close();
            this.#tabs.close();
        });
    }

    #listen(): void {
        const session = this.#session;
        this.#tabs.onWord = ({ chat, draft }) => this.drafts.show(chat, draft);
        this.drafts.onChange = (chat, draft) => this.#tabs.tell({ chat, draft });
        this.#tabs.onGone = () =>
            void this.#kept.adopt().then(
                (left) => this.sends.adopt(left),
                () => undefined,
            );
        for (const type of ChatList.EVENTS) session.on(type, (event) => this.chats.take(event));
        session.on("connected", () => {
            this.connection.set("online");
            this.users.doubt();
            this.pins.reload();
            this.#refresh();
        });
        session.on("disconnected", ({ why }) => {
            this.connection.set("offline", why, session.closeCode);
            this.users.loseSight();
        });
        session.on("ended", ({ why }) => {
            // A session that was ended elsewhere may be that of a lost device, in other hands now.
            if (session.closeCode === SESSION_ENDED) this.forgotten = "all";
            // It may as well be too old, and then its user comes back to what they wrote.
            else if (session.isSignInOver) this.forgotten = "all-but-unsent";
            this.connection.set("ended", why, session.closeCode);
            if (this.forgotten) void this.#forget(this.forgotten);
            else this.#leave();
        });
        session.on("synced", ({ page }) => this.#synced(page));
        session.on("own_state", ({ ownState }) => this.drafts.take(ownState.chat, ownState.own));
        session.on("entry", ({ message }) => {
            this.#rooms.get(message.chat)?.take(message);
            this.#came(message);
        });
        session.on("elsewhere", ({ message }) => this.#came(message));
        session.on("unreadable", ({ chat, code }) => this.#rooms.get(chat)?.lose(code));
        session.on("send", (event) => {
            this.sends.take(event, this.#rooms.has(event.chat));
            // It may be of a moderator, which no frame says.
            if (event.state.state === "failed" && event.state.code === "permission_denied")
                this.#loadStanding();
        });
        session.on("presence", ({ users }) => this.users.takePresence(users));
        session.on("typing", ({ typing }) => {
            if (typing.user !== this.user) this.users.takeTyping(typing);
        });
    }

    /** Fetches what nothing is pushed of: again with a connection, and not with each of those that follow one another. */
    #refresh(): void {
        const now = performance.now();
        const isKnown = this.standing.error === undefined;
        if (isKnown && now - this.#refreshedAt < REFRESH_EVERY_MS) return;
        this.#refreshedAt = now;
        void this.contacts.load();
        this.#loadStanding();
    }

    #loadStanding(): void {
        if (!this.#services.includes("moderation")) return;
        this.#standingAt = performance.now();
        void this.standing.load();
    }

    #renewStanding(): void {
        if (this.#standingAt === undefined || performance.now() - this.#standingAt < STANDING_EVERY_MS) return;
        this.#loadStanding();
    }

    #synced(page: socket.SyncPage): void {
        for (const { chat, head_seq, own, watermarks } of page.chats) {
            this.drafts.take(chat, own);
            if (head_seq > watermarks.delivered_seq) this.#session.delivered(chat, head_seq);
            // One that was opened before the list had it.
            if (this.#rooms.has(chat)) this.room(chat);
        }
        this.#keeper.synced(page);
        if (page.more) return;
        this.#watch();
        if (!this.#isCurrent) this.#caughtUp();
    }

    /** The list of an earlier page is that of now. What did not change since was not among the pages of the sync. */
    #caughtUp(): void {
        this.#isCurrent = true;
        for (const { chat, head_seq, watermarks } of this.chats.sorted) {
            // The earlier page may have been closed before it said so.
            if (head_seq > watermarks.delivered_seq) this.#session.delivered(chat, head_seq);
        }
        for (const id of this.#rooms.keys()) this.room(id);
    }

    #came(message: socket.Message): void {
        this.pins.take(message);
        if (message.sender === this.user) {
            this.sends.settle(message.key);
            return;
        }
        this.users.stopTyping(message.chat, message.sender);
        const state = this.chats.get(message.chat);
        if (!state || message.seq <= state.watermarks.delivered_seq) return;
        this.#session.delivered(message.chat, message.seq);
        if (message.kind === "text") this.onNews({ message, chat: state });
    }

    #watch(): void {
        const users = this.chats.sorted.flatMap((state) => state.other ?? []).slice(0, MAX_WATCHED);
        const open = this.#open === undefined ? undefined : this.chats.get(this.#open);
        const other = open?.other;
        this.#session.watch({
            users: other !== undefined && !users.includes(other) ? [other, ...users] : users,
            chats: open ? [open.chat] : [],
        });
    }

    #expire(): void {
        const now = Date.now();
        const isDue = (message: socket.Message) =>
            message.expires_at_ms !== undefined && message.expires_at_ms <= now && !message.expired;
        if (this.chats.sorted.some((state) => state.entries.some(isDue))) this.chats.expire(now);
        for (const room of this.#rooms.values()) if (room.entries.some(isDue)) room.expire(now);
    }
}

async function keptOf(kept: Kept) {
    const [outgoing, refused, drafts, list] = await Promise.all([
        ...([kept.load(), kept.refused(), kept.drafts()] as const),
        // Without it the list is fetched.
        kept.list().catch(() => undefined),
    ]);
    return { outgoing, refused, drafts, list };
}

/** One installation: this browser. It is no secret, and says nothing of the user. */
function device(): string {
    const known = localStorage.getItem(DEVICE_KEY);
    if (known) return known;
    const made = crypto.randomUUID();
    localStorage.setItem(DEVICE_KEY, made);
    return made;
}

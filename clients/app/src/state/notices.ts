// Of what the user is notified, when, and where: by pushes and mails while no device of theirs takes messages, and by a page that is not seen.
import { CallError, type Identity, type notification, type socket } from "@posthouse/client";
import { Reading } from "../shared/reading";
import { Source } from "../shared/source";

export type Preferences = notification.NotificationPreferences;
export type Subscription = notification.Subscription;

const PATH = "/api/notifications";

export class Notices extends Source {
    /** Until they are loaded there are none. */
    preferences: Preferences | undefined;
    channels: notification.NotificationChannels | undefined;
    subscriptions: readonly Subscription[] = [];
    readonly #identity: Pick<Identity, "call">;
    readonly #wishes = new Reading((isNewest) => this.#readPreferences(isNewest));
    readonly #all = new Reading((isNewest) => this.#readAll(isNewest));

    constructor(identity: Pick<Identity, "call">) {
        super();
        this.#identity = identity;
    }

    /** Fetches what the user wants, if it can be. */
    loadPreferences(): Promise<void> {
        return this.#wishes.again();
    }

    /** Returns whether the user wants to be notified of a message at this time: of any, as long as it is not known. */
    wants(message: socket.Message, kind: socket.ChatState["kind"], user: string, nowMs: number): boolean {
        if (!this.preferences) return true;
        const { level, quiet } = this.preferences;
        if (quiet && isQuiet(quiet, nowMs)) return false;
        const { mentions = [], mentions_all, mentions_here } = message;
        const isCalled = mentions.includes(user) || mentions_all === true || mentions_here === true;
        return level === "all" || (level === "mentions" && (kind === "direct" || isCalled));
    }

    /** Fetches all of it. Throws a `CallError`. */
    load(): Promise<void> {
        return this.#all.again();
    }

    async set(preferences: Preferences): Promise<void> {
        this.preferences = await this.#identity.call("PUT", `${PATH}/preferences`, preferences);
        this.#isChanged();
    }

    /** Adds an endpoint, an address or a number; the same one again sends its mail or its code again. A new webhook comes with its secret. */
    async add(target: notification.CreateSubscriptionRequest): Promise<Subscription> {
        const added: Subscription = await this.#identity.call("POST", `${PATH}/subscriptions`, target);
        // A secret is shown once, and kept nowhere.
        const { secret: _, ...shown } = added;
        const others = this.subscriptions.filter(({ id }) => id !== added.id);
        this.subscriptions = [...others, shown];
        this.#isChanged();
        return added;
    }

    /** Confirms a number by the code that was sent to it. */
    async confirm(id: string, code: string): Promise<void> {
        await this.#identity.call("POST", `${PATH}/subscriptions/${id}/confirmation`, { code });
        this.subscriptions = this.subscriptions.map((known) =>
            known.id === id ? { ...known, confirmed: true } : known,
        );
        this.#isChanged();
    }

    async remove(id: string): Promise<void> {
        await this.#identity.call("DELETE", `${PATH}/subscriptions/${id}`);
        this.subscriptions = this.subscriptions.filter((known) => known.id !== id);
        this.#isChanged();
    }

    #isChanged(): void {
        for (const reading of [this.#wishes, this.#all]) reading.outdate();
        this.changed();
    }

    async #readPreferences(isNewest: () => boolean): Promise<void> {
        try {
            const preferences: Preferences = await this.#identity.call("GET", `${PATH}/preferences`);
            if (!isNewest()) return;
            this.preferences = preferences;
            this.changed();
        } catch (error) {
            // What was known is the best guess.
            if (!(error instanceof CallError)) throw error;
        }
    }

    async #readAll(isNewest: () => boolean): Promise<void> {
        const get = <T>(what: string) => this.#identity.call<T>("GET", `${PATH}/${what}`);
        const [preferences, channels, page] = await Promise.all([
            get<Preferences>("preferences"),
            get<notification.NotificationChannels>("channels"),
            get<notification.Page_Subscription>("subscriptions"),
        ]);
        if (!isNewest()) return;
        this.preferences = preferences;
        this.channels = channels;
        this.subscriptions = page.items;
        this.changed();
    }
}

const DAY_MINUTES = 24 * 60;

/** Returns whether it is quiet at a time; the hours may last over midnight. */
function isQuiet({ from, to, time_zone }: notification.QuietHours, nowMs: number): boolean {
    const minute = (time: string) => {
        const [hours, minutes] = time.split(":").map(Number);
        return hours! * 60 + minutes!;
    };
    const since = (start: number, end: number) => (end - start + DAY_MINUTES) % DAY_MINUTES;
    try {
        const format = new Intl.DateTimeFormat("en-GB", { timeStyle: "short", timeZone: time_zone });
        const begin = minute(from);
        return since(begin, minute(format.format(nowMs))) < since(begin, minute(to));
    } catch {
        // A browser may not know the time zone of another one.
        return false;
    }
}

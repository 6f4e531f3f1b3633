// Of what the user is notified while no device of theirs takes messages, when, and where.
import type { Identity, notification } from "@posthouse/client";
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

    constructor(identity: Pick<Identity, "call">) {
        super();
        this.#identity = identity;
    }

    /** Fetches all of it. Throws a `CallError`. */
    async load(): Promise<void> {
        const get = <T>(what: string) => this.#identity.call<T>("GET", `${PATH}/${what}`);
        const [preferences, channels, page] = await Promise.all([
            get<Preferences>("preferences"),
            get<notification.NotificationChannels>("channels"),
            get<notification.Page_Subscription>("subscriptions"),
        ]);
        this.preferences = preferences;
        this.channels = channels;
        this.subscriptions = page.items;
        this.changed();
    }

    async set(preferences: Preferences): Promise<void> {
        this.preferences = await this.#identity.call("PUT", `${PATH}/preferences`, preferences);
        this.changed();
    }

    /** Adds an endpoint, an address or a number; the same one again sends its mail or its code again. A new webhook comes with its secret. */
    async add(target: notification.CreateSubscriptionRequest): Promise<Subscription> {
        const added: Subscription = await this.#identity.call("POST", `${PATH}/subscriptions`, target);
        // A secret is shown once, and kept nowhere.
        const { secret: _, ...shown } = added;
        const others = this.subscriptions.filter(({ id }) => id !== added.id);
        this.subscriptions = [...others, shown];
        this.changed();
        return added;
    }

    /** Confirms a number by the code that was sent to it. */
    async confirm(id: string, code: string): Promise<void> {
        await this.#identity.call("POST", `${PATH}/subscriptions/${id}/confirmation`, { code });
        this.subscriptions = this.subscriptions.map((known) =>
            known.id === id ? { ...known, confirmed: true } : known,
        );
        this.changed();
    }

    async remove(id: string): Promise<void> {
        await this.#identity.call("DELETE", `${PATH}/subscriptions/${id}`);
        this.subscriptions = this.subscriptions.filter((known) => known.id !== id);
        this.changed();
    }
}

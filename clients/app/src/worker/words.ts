// What the page and its worker say to each other.
import type { NoticeData } from "./notice";

export type ToWorker =
    /** A page with this script has opened, or the worker has become that of the page. */
    | { is: "opened"; script: string }
    /** The language of the user. */
    | { is: "language"; tag: string };

export type ToPage =
    /** Whether the page is of the worker's build. */
    | { is: "version"; isCurrent: boolean }
    /** The user has chosen a notification. */
    | { is: "chosen"; place: NoticeData }
    /** The browser has replaced its subscription. */
    | { is: "subscription" };

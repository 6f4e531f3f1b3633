// What a browser forgets of a user who is signed in no more: another user of this browser reads nothing of theirs.
import { installed } from "./installed";
import { Kept, type Extent } from "./state/kept";
import { forgetSubscription, unsubscribeHere } from "./state/push";

/** Who was signed in in this browser: a silent attempt is worth its way. */
export const KNOWN_KEY = "posthouse.signed-in";
/** The id of this installation, of one user: the next one's is another, or it would say that both were here. */
export const DEVICE_KEY = "posthouse.device";

/**
 * Removes what this browser keeps of `user`, shows of them and is sent for them. It asks nobody, so it needs no token and no connection, and
 * a part that the browser refuses leaves none of the others. What the user wants of this browser, such as its language, stays.
 */
export async function forgetUser(user: string, extent: Extent): Promise<void> {
    // First, and at once: without it, a page that is opened without a connection shows nothing.
    localStorage.removeItem(KNOWN_KEY);
    localStorage.removeItem(DEVICE_KEY);
    // Of a user who may come back it stays: by it the page knows when another user signs in instead (`Push.isOfAnother`).
    if (extent === "all") forgetSubscription();
    await Promise.allSettled([Kept.forget(user, extent), unsubscribeHere(), installed.forget()]);
}

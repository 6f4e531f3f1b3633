// The clipboard of the browser.

/** Copies a text. Returns whether it is there: a browser may refuse it, and has no clipboard for a page over an open connection. */
export async function copy(text: string): Promise<boolean> {
    try {
        await navigator.clipboard.writeText(text);
        return true;
    } catch {
        return false;
    }
}

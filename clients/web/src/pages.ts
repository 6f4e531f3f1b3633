// Lists of the REST API, which come in pages.
import type { Identity } from "./messenger.js";

type Page<Item> = { items: Item[]; next_cursor?: string | null };

/** Returns a whole list, in pages of `limit`. Throws a `CallError`. */
export async function all<Item>(identity: Identity, path: string, limit = 100): Promise<Item[]> {
    const items: Item[] = [];
    let cursor: string | null | undefined;
    do {
        const query: string = cursor ? `&cursor=${encodeURIComponent(cursor)}` : "";
        const page: Page<Item> = await identity.call("GET", `${path}?limit=${limit}${query}`);
        items.push(...page.items);
        cursor = page.next_cursor;
    } while (cursor);
    return items;
}

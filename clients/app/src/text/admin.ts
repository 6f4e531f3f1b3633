// The texts of the console. They come with it, and are no part of the first load.
import en from "./languages/admin/en.json";
import { Texts, type Text } from "./texts";

export type AdminKey = keyof typeof en;

const LANGUAGES = import.meta.glob<Record<AdminKey, Text>>(
    ["./languages/admin/*.json", "!./languages/admin/en.json"],
    { import: "default" },
);

/** Returns the texts of the console; a language that has none for it reads English there. */
export async function loadAdminTexts(language: string): Promise<Texts<AdminKey>> {
    const load = LANGUAGES[`./languages/admin/${language}.json`];
    return new Texts<AdminKey>(load ? language : "en", load ? await load() : en, en);
}

// The texts of the console. They come with it, and are no part of the first load.
import en from "./languages/admin/en.json";
import { Texts, type Languages, type Text } from "./texts";

export type AdminKey = keyof typeof en;

const LANGUAGES: Languages<AdminKey> = import.meta.glob<Record<AdminKey, Text>>(
    ["./languages/admin/*.json", "!./languages/admin/en.json"],
    { import: "default" },
);

/** Returns the texts of the console; a language that has none for it reads English there, and so does one whose texts do not come. */
export async function loadAdminTexts(language: string, languages = LANGUAGES): Promise<Texts<AdminKey>> {
    const texts = await languages[`./languages/admin/${language}.json`]?.().catch(() => undefined);
    return texts ? new Texts<AdminKey>(language, texts, en) : new Texts<AdminKey>("en", en, en);
}

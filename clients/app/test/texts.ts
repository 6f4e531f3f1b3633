// What the texts of both clients have to be. `expect` is handed in: each client has a test runner of its own.
import type { ExpectStatic } from "vitest";

export type TextFile = Record<string, string | Record<string, string>>;

/** Returns the names of the values that a text takes. */
export const placeholders = (text: string) => [...text.matchAll(/\{(\w+)\}/g)].map(([, name]) => name!).sort();

/** Returns the language of a file of texts. */
export const languageOf = (path: string) => path.replace(/^.*\/(.*)\.json$/, "$1");

/** Expects a language to have every English text, every plural and every value. `expectForm` expects of one form of a plural what it has to have. */
export function expectTexts(
    expect: ExpectStatic,
    path: string,
    texts: TextFile,
    english: TextFile,
    expectForm: (key: string, form: string, text: string, english: string) => void,
): void {
    const language = languageOf(path);
    expect(Object.keys(texts).sort()).toEqual(Object.keys(english).sort());
    const { pluralCategories } = new Intl.PluralRules(language).resolvedOptions();
    for (const [key, text] of Object.entries(texts)) {
        const wanted = english[key]!;
        expect(typeof text, key).toBe(typeof wanted);
        if (typeof text === "string") {
            expect(placeholders(text), key).toEqual(placeholders(wanted as string));
            continue;
        }
        for (const category of pluralCategories)
            expect(Object.keys(text), `${key} in ${language}`).toContain(category);
        for (const [form, one] of Object.entries(text))
            expectForm(key, form, one, (wanted as Record<string, string>)["other"]!);
    }
}

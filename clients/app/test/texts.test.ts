import { expect, test } from "vitest";
import en from "../src/text/languages/en.json";
import { bestLanguage, LANGUAGE_TAGS, Texts } from "../src/text/texts";

const FILES = import.meta.glob<Record<string, string | Record<string, string>>>(
    "../src/text/languages/*.json",
    { import: "default", eager: true },
);

const placeholders = (text: string) => [...text.matchAll(/\{(\w+)\}/g)].map(([, name]) => name!).sort();

test.each(Object.entries(FILES))("%s has every text, every plural and every value", (path, texts) => {
    const language = path.replace(/^.*\/(.*)\.json$/, "$1");
    expect(Object.keys(texts).sort()).toEqual(Object.keys(en).sort());
    const { pluralCategories } = new Intl.PluralRules(language).resolvedOptions();
    for (const [key, text] of Object.entries(texts)) {
        const english = en[key as keyof typeof en];
        expect(typeof text, key).toBe(typeof english);
        if (typeof text === "string") {
            expect(placeholders(text), key).toEqual(placeholders(english as string));
            continue;
        }
        for (const category of pluralCategories)
            expect(Object.keys(text), `${key} in ${language}`).toContain(category);
        for (const form of Object.values(text)) {
            expect(new Set(placeholders(form)), key).toEqual(
                new Set(placeholders((english as { other: string }).other)),
            );
        }
    }
});

test("a number chooses its form by the rules of the language", async () => {
    const russian = await Texts.load("ru");
    const forms = [1, 3, 5, 21, 112].map((count) => russian.of("replies", { count }));
    expect(forms).toEqual(["1 ответ", "3 ответа", "5 ответов", "21 ответ", "112 ответов"]);
});

test("a value is put in as it is, and never read again", async () => {
    const english = await Texts.load("en");
    expect(english.of("remove", { name: "{count} $& <b>" })).toBe("Remove {count} $& <b>");
});

test("the browser's languages decide where the user did not", () => {
    expect(LANGUAGE_TAGS).toEqual(expect.arrayContaining(["en", "ru"]));
    for (const [chosen, preferred, expected] of [
        ["ru", ["en"], "ru"],
        [undefined, ["ru-RU", "en"], "ru"],
        [undefined, ["tlh"], "en"],
        ["gone", [], "en"],
    ] as const) {
        expect(bestLanguage(chosen, preferred)).toBe(expected);
    }
});

test("yesterday is by midnight, and not by hours", async () => {
    const english = await Texts.load("en");
    const now = new Date(2026, 10, 30, 0, 10).getTime();
    expect(english.day(new Date(2026, 10, 29, 23, 50).getTime(), now)).toBe("yesterday");
    expect(english.day(now, now)).toBe("today");
    expect(english.day(new Date(2025, 0, 2).getTime(), now)).toContain("2025");
});

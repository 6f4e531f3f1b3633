import { expect, test } from "vitest";
import en from "../src/text/languages/en.json";
import { bestLanguage, LANGUAGE_TAGS, Texts } from "../src/text/texts";
import { expectTexts, placeholders, type TextFile } from "./texts";

const FILES = import.meta.glob<TextFile>("../src/text/languages/*.json", { import: "default", eager: true });

test.each(Object.entries(FILES))("%s has every text, every plural and every value", (path, texts) => {
    expectTexts(expect, path, texts, en, (key, _form, text, english) =>
        expect(new Set(placeholders(text)), key).toEqual(new Set(placeholders(english))),
    );
});

test("a number chooses its form by the rules of the language", async () => {
    const russian = await Texts.load("ru");
    const forms = [1, 3, 5, 21, 112].map((count) => russian.of("replies", { count }));
    expect(forms).toEqual(["1 ответ", "3 ответа", "5 ответов", "21 ответ", "112 ответов"]);
});

test("a language that does not come, as without a connection, is English until the next load", async () => {
    const away = { "./languages/ru.json": () => Promise.reject(new TypeError("failed to fetch")) };
    expect((await Texts.load("ru", away)).language).toBe("en");
    expect((await Texts.load("ru")).language).toBe("ru");
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

import { expect, test } from "vitest";
import { expectTexts, placeholders, type TextFile } from "../../app/test/texts";
import en from "../src/text/languages/en.json";
import { Texts } from "../src/text/texts";

const FILES = import.meta.glob<TextFile>("../src/text/languages/*.json", { import: "default", eager: true });

test.each(Object.entries(FILES))("%s has every text, every plural and every value", (path, texts) => {
    expectTexts(expect, path, texts, en, (key, form, text) => {
        // A form of one number may say it in words.
        if (form !== "one") expect(placeholders(text), key).toContain("count");
    });
});

test("a number chooses its form, and a language is that of the browser or English", async () => {
    const russian = await Texts.load(["ru-RU", "en"]);
    expect([1, 3, 5, 21].map((count) => russian.of("tenants.count", { count }))).toEqual([
        "1 тенант",
        "3 тенанта",
        "5 тенантов",
        "21 тенант",
    ]);
    for (const preferred of [["tlh"], ["en-GB", "ru"], []])
        expect((await Texts.load(preferred)).language).toBe("en");
    const away = { "./languages/ru.json": () => Promise.reject(new TypeError("failed to fetch")) };
    expect((await Texts.load(["ru"], away)).language).toBe("en");
});

test("a value is put in as it is, and never read again", async () => {
    const english = await Texts.load([]);
    expect(english.of("signedInAs", { name: "{count} $& <b>" })).toBe("Signed in as {count} $& <b>");
});

test("ages and sizes are in their largest unit", async () => {
    const english = await Texts.load([]);
    const now = Date.parse("2026-11-30T00:00:00Z");
    const age = (minutes: number) => english.age(now - minutes * 60_000, now);
    expect([age(-5), age(0), age(59), age(60), age(47 * 60), age(49 * 60)]).toEqual([
        "0 min",
        "0 min",
        "59 min",
        "1 hr",
        "47 hr",
        "2 days",
    ]);
    expect([0, 1023, 1024, 67_108_864, 10 * 2 ** 30].map((bytes) => english.bytes(bytes))).toEqual([
        "0 B",
        "1,023 B",
        "1 KiB",
        "64 MiB",
        "10 GiB",
    ]);
    expect((await Texts.load(["ru"])).bytes(67_108_864)).toBe("64 МиБ");
});

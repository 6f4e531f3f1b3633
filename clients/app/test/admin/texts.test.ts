import { readdirSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { loadAdminTexts } from "../../src/text/admin";
import { LANGUAGE_TAGS } from "../../src/text/texts";
import en from "../../src/text/languages/admin/en.json";
import { ACTIONS } from "../../src/ui/admin/audit";
import { expectTexts, languageOf, placeholders, type TextFile } from "../texts";

const FILES = import.meta.glob<TextFile>("../../src/text/languages/admin/*.json", {
    import: "default",
    eager: true,
});

test.each(Object.entries(FILES))("%s has every text, every plural and every value", (path, texts) => {
    expect(LANGUAGE_TAGS).toContain(languageOf(path));
    expect(Object.keys(texts)).toEqual(Object.keys(en));
    expectTexts(expect, path, texts, en, (key, _form, text, english) =>
        expect(placeholders(text), key).toEqual(placeholders(english)),
    );
});

test("a language without texts for the console reads English there", async () => {
    const texts = await loadAdminTexts("tlh");
    expect([texts.language, texts.of("screen.audit")]).toEqual(["en", "Audit log"]);
    const away = { "./languages/admin/ru.json": () => Promise.reject(new TypeError("failed to fetch")) };
    expect((await loadAdminTexts("ru", away)).language).toBe("en");
});

test("every text is used, and every one that a screen names is there", () => {
    const folder = "src/ui/admin";
    const source = readdirSync(folder)
        .map((name) => readFileSync(`${folder}/${name}`, "utf8"))
        .join("\n");
    // Of texts that a value chooses, the screen has the beginning.
    const chosen = [...source.matchAll(/`([\w]+\.)\$\{/g)].map(([, beginning]) => beginning!);
    const isUsed = (key: string) =>
        source.includes(`"${key}"`) ||
        chosen.some((beginning) => key.startsWith(beginning)) ||
        ["enforceText", "retireText", "removeText"].includes(key);
    expect(Object.keys(en).filter((key) => !isUsed(key))).toEqual([]);
});

test("what the messenger notes has a text", () => {
    expect(ACTIONS.filter((action) => !(`action.${action}` in en))).toEqual([]);
});

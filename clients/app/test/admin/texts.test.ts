import { readdirSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { loadAdminTexts } from "../../src/text/admin";
import { LANGUAGE_TAGS } from "../../src/text/texts";
import en from "../../src/text/languages/admin/en.json";
import { ACTIONS } from "../../src/ui/admin/audit";

const FILES = import.meta.glob<Record<string, string | Record<string, string>>>(
    "../../src/text/languages/admin/*.json",
    { import: "default", eager: true },
);

const placeholders = (text: string) => [...text.matchAll(/\{(\w+)\}/g)].map(([, name]) => name!).sort();

test.each(Object.entries(FILES))("%s has every text, every plural and every value", (path, texts) => {
    const language = path.replace(/^.*\/(.*)\.json$/, "$1");
    expect(LANGUAGE_TAGS).toContain(language);
    expect(Object.keys(texts)).toEqual(Object.keys(en));
    const { pluralCategories } = new Intl.PluralRules(language).resolvedOptions();
    for (const [key, text] of Object.entries(texts)) {
        const english = en[key as keyof typeof en];
        expect(typeof text, key).toBe(typeof english);
        const forms = typeof text === "string" ? [text] : Object.values(text);
        const wanted = typeof english === "string" ? english : (english as { other: string }).other;
        for (const form of forms) expect(placeholders(form), key).toEqual(placeholders(wanted));
        if (typeof text !== "string")
            for (const category of pluralCategories) expect(Object.keys(text), key).toContain(category);
    }
});

test("a language without texts for the console reads English there", async () => {
    const texts = await loadAdminTexts("tlh");
    expect([texts.language, texts.of("screen.audit")]).toEqual(["en", "Audit log"]);
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

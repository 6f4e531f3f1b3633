// What Lighthouse finds in the page, offline: its own emulation of a phone, and its audits of best practices and of accessibility.
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import lighthouse from "lighthouse";
import { report } from "./figures";
import { freePort } from "./port";
import { expect, OUT, test } from "./stand";

/** What each category is to have at least, of 1. */
const LEAST = { performance: 0.9, accessibility: 1, "best-practices": 1 } as const;
type Category = keyof typeof LEAST;

test.use({ trace: "off", screenshot: "off" });

test("Lighthouse has nothing to say", async ({ playwright, launchOptions, baseURL }) => {
    test.setTimeout(240_000);
    const port = await freePort();
    const args = [...(launchOptions.args ?? []), `--remote-debugging-port=${port}`];
    const browser = await playwright.chromium.launch({ ...launchOptions, args });
    const categories = Object.keys(LEAST) as Category[];
    const found = await lighthouse(baseURL!, {
        port,
        logLevel: "error",
        output: "html",
        onlyCategories: categories,
    });
    await browser.close();
    const { lhr, report: page } = found!;
    await mkdir(join(OUT, "figures"), { recursive: true });
    await writeFile(join(OUT, "figures", "lighthouse.html"), String(page));
    const failed = (category: Category) =>
        lhr.categories[category]!.auditRefs.filter(
            ({ id, weight }) => weight > 0 && (lhr.audits[id]!.score ?? 1) < 1,
        ).map(({ id }) => id);
    const score = (category: Category) => lhr.categories[category]!.score ?? 0;
    await report(
        "lighthouse",
        `Lighthouse ${lhr.lighthouseVersion} of the sign-in, as on a phone`,
        categories.map((category) => ({
            category,
            score: score(category),
            "audits below 1": failed(category).join(", "),
            "first paint": lhr.audits["first-contentful-paint"]?.displayValue ?? "",
            "largest paint": lhr.audits["largest-contentful-paint"]?.displayValue ?? "",
            interactive: lhr.audits["interactive"]?.displayValue ?? "",
        })),
    );
    for (const category of categories)
        expect(score(category), failed(category).join(", ")).toBeGreaterThanOrEqual(LEAST[category]);
});

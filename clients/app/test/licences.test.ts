// What the client is made of, and what it is made with, by the list of deny.toml.
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";

type Lock = { packages: Record<string, { license?: string; dev?: boolean; resolved?: string }> };

const ALLOWED = [
    ...readFileSync("../../deny.toml", "utf8")
        .split(/^exceptions/m)[0]!
        .matchAll(/^ {4}"([^"]+)",$/gm),
].map(([, licence]) => licence);

/** Tools that are not part of what is served, each with its reason. */
const EXCEPTIONS: Record<string, string> = {
    "axe-core": "MPL-2.0: it reads a page in a test, and no file of it is shipped",
    "@axe-core/playwright": "MPL-2.0: likewise",
    "parse-cache-control":
        "BSD-3-Clause by its LICENSE, and its package.json names none; in nothing that is shipped",
    "type-fest": "MIT or CC0-1.0",
    "graceful-fs": "BlueOak-1.0.0: permissive, and in nothing that is shipped",
};

test.each(["package-lock.json", "e2e/package-lock.json"])(
    "%s has licences that an Apache-2.0 program may use",
    (file) => {
        expect(ALLOWED).toContain("MIT");
        const { packages } = JSON.parse(readFileSync(file, "utf8")) as Lock;
        for (const [path, { license }] of Object.entries(packages)) {
            const name = path.replace(/^.*node_modules\//, "");
            if (path !== "" && !(name in EXCEPTIONS)) expect(ALLOWED, name).toContain(license);
        }
    },
);

test("what is served has no library that it does not need", () => {
    const { packages } = JSON.parse(readFileSync("package-lock.json", "utf8")) as Lock;
    const served = Object.entries(packages).filter(([path, { dev }]) => path !== "" && dev !== true);
    expect(served.map(([path]) => path.replace("node_modules/", "")).sort()).toEqual([
        "marked",
        "react",
        "react-dom",
        "scheduler",
        "thumbhash",
        "virtua",
    ]);
});

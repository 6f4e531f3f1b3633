// What the console is made of, and what it is made with, by the list of deny.toml.
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";

type Lock = { packages: Record<string, { license?: string; dev?: boolean }> };

const ALLOWED = [
    ...readFileSync("../../deny.toml", "utf8")
        .split(/^exceptions/m)[0]!
        .matchAll(/^ {4}"([^"]+)",$/gm),
].map(([, licence]) => licence);

const { packages } = JSON.parse(readFileSync("package-lock.json", "utf8")) as Lock;

test("every library has a licence that an Apache-2.0 program may use", () => {
    expect(ALLOWED).toContain("MIT");
    for (const [path, { license }] of Object.entries(packages))
        if (path !== "") expect(ALLOWED, path).toContain(license);
});

test("what is served has no library that it does not need", () => {
    const served = Object.entries(packages).filter(([path, { dev }]) => path !== "" && dev !== true);
    expect(served.map(([path]) => path.replace("node_modules/", "")).sort()).toEqual([
        "react",
        "react-dom",
        "scheduler",
    ]);
});

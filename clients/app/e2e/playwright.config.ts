import { defineConfig, devices } from "@playwright/test";

// Where the messenger is: a tenant of the stack that is up, behind Traefik.
const URL = process.env["POSTHOUSE_URL"] ?? "http://acme.localhost:8000";
const OUT = process.env["POSTHOUSE_OUT"] ?? "results";
// The browser that Debian ships; none is downloaded.
const launchOptions = {
    executablePath: process.env["CHROMIUM"] ?? "/usr/bin/chromium",
    args: ["--no-sandbox"],
};

export default defineConfig({
    testDir: "stories",
    outputDir: `${OUT}/traces`,
    // One stack, and limits for each user of it.
    workers: 1,
    forbidOnly: true,
    retries: 0,
    timeout: 120_000,
    expect: { timeout: 15_000 },
    reporter: [["list"], ["json", { outputFile: `${OUT}/result.json` }]],
    use: {
        baseURL: URL,
        launchOptions,
        trace: "retain-on-failure",
        screenshot: "only-on-failure",
        serviceWorkers: "block",
    },
    projects: [
        { name: "desktop", use: { ...devices["Desktop Chrome"], launchOptions } },
        { name: "phone", use: { ...devices["Pixel 7"], launchOptions }, testMatch: "screens.spec.ts" },
    ],
});

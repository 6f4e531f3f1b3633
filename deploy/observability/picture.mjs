// Pictures of what an administrator sees of one message: its trace in Zipkin, and the dashboards. Fails when a step of the trace is missing, or when the
// dashboard draws nothing. Started by `scripts/observe picture`, with the packages of the web client's stories.
import { mkdir } from "node:fs/promises";
import { createRequire } from "node:module";
import { join } from "node:path";

const { E2E, POSTHOUSE_OUT, PROMETHEUS_URL, TRACE_ID, ZIPKIN_URL } = process.env;
const { chromium } = createRequire(join(E2E, "package.json"))("@playwright/test");

/** What a message passes: the services that record a step (all are one in the topology Compact), and the step. */
const STEPS = [
    { services: ["gateway", "compact"], name: "append" },
    { services: ["message", "compact"], name: "apply" },
    { services: ["gateway", "compact"], name: "deliver" },
];
const PATIENCE_MS = 30_000;

/** Waits until the store has every step: spans come from several processes. */
async function recorded() {
    const end = Date.now() + PATIENCE_MS;
    for (;;) {
        const response = await fetch(`${ZIPKIN_URL}/api/v2/trace/${TRACE_ID}`);
        const spans = response.ok ? await response.json() : [];
        const isThere = ({ services, name }) =>
            spans.some((span) => span.name === name && services.includes(span.localEndpoint?.serviceName));
        const missing = STEPS.filter((step) => !isThere(step)).map(({ name }) => name);
        if (missing.length === 0) return spans.length;
        if (Date.now() > end) throw new Error(`trace ${TRACE_ID} has ${spans.length} spans, and none of ${missing.join(", ")}`);
        await new Promise((resolve) => setTimeout(resolve, 500));
    }
}

async function keep(page, name) {
    const path = join(POSTHOUSE_OUT, `${name}.png`);
    await page.screenshot({ path, fullPage: true });
    console.log(path);
}

const spans = await recorded();
await mkdir(POSTHOUSE_OUT, { recursive: true });
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] });
try {
    const page = await browser.newPage({ viewport: { width: 1600, height: 1200 } });
    page.setDefaultTimeout(PATIENCE_MS);

    await page.goto(`${ZIPKIN_URL}/zipkin/traces/${TRACE_ID}`);
    for (const { name } of STEPS) await page.getByText(new RegExp(`\\b${name}\\b`, "i")).first().waitFor();
    await keep(page, "trace");

    await page.goto(`${PROMETHEUS_URL}/user/#posthouse-message-path`);
    await page.locator("figure polyline").first().waitFor({ state: "attached" });
    await page.getByRole("status").filter({ hasText: "as of" }).waitFor();
    await keep(page, "dashboard");
    const marks = await page.locator("figure a.exemplar").count();
    console.log(`trace ${TRACE_ID} with ${spans} spans; ${marks} samples lead to a trace`);
} finally {
    await browser.close();
}

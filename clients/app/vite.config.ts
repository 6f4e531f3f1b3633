import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { build, defineConfig, type Plugin, type Rollup } from "vite";
import { compressed } from "./scripts/compressed";

const LANGUAGES = "src/text/languages";

/** Returns the texts of pushes, which the service worker has for itself. */
function pushTexts(): Record<string, Record<string, unknown>> {
    const read = (file: string) => {
        const texts = JSON.parse(readFileSync(`${LANGUAGES}/${file}`, "utf8")) as Record<string, unknown>;
        return Object.fromEntries(Object.entries(texts).filter(([key]) => key.startsWith("push.")));
    };
    return Object.fromEntries(
        readdirSync(LANGUAGES)
            .filter((file) => file.endsWith(".json"))
            .map((file) => [file.replace(/\.json$/, ""), read(file)] as const),
    );
}

/** Returns the files of the moderators' console: it does nothing without a connection, and other users never fetch it. */
function ofModerators(bundle: (Rollup.OutputChunk | Rollup.OutputAsset)[]): Set<string> {
    const chunks = bundle.filter((file) => file.type === "chunk");
    const own = chunks.filter(
        ({ moduleIds }) => moduleIds.length > 0 && moduleIds.every((id) => /\/admin(\/|\.\w+$)/.test(id)),
    );
    return new Set(own.flatMap((chunk) => [chunk.fileName, ...(chunk.viteMetadata?.importedCss ?? [])]));
}

/** Makes `sw.js`, one script that knows the files of this build. */
function serviceWorker(): Plugin {
    return {
        name: "service-worker",
        apply: "build",
        enforce: "post",
        generateBundle: {
            order: "post",
            async handler(_options, bundle) {
                const others = ofModerators(Object.values(bundle));
                const files = Object.keys(bundle).filter(
                    (name) => /^assets\/.*\.(js|css|woff2)$/.test(name) && !others.has(name),
                );
                const entry = Object.values(bundle).find(
                    (file) => file.type === "chunk" && file.isEntry && file.name === "index",
                );
                const paths = files.sort().map((name) => `/app/${name}`);
                const id = createHash("sha256").update(paths.join()).digest("hex").slice(0, 12);
                const known = { id, files: paths, entry: `/app/${entry?.fileName}` };
                const made = await build({
                    configFile: false,
                    logLevel: "warn",
                    define: { BUILD: JSON.stringify(known), PUSH_TEXTS: JSON.stringify(pushTexts()) },
                    build: {
                        write: false,
                        target: "es2022",
                        lib: { entry: "src/worker/worker.ts", formats: ["iife"], name: "worker" },
                    },
                });
                const { output } = (Array.isArray(made) ? made[0] : made) as Rollup.RollupOutput;
                this.emitFile({ type: "asset", fileName: "sw.js", source: output[0].code });
            },
        },
    };
}

const MESSENGER = process.env["POSTHOUSE_URL"] ?? "http://127.0.0.1:7070";

export default defineConfig({
    // All files but the page are below this path on a tenant's address.
    base: "/app/",
    plugins: [serviceWorker(), compressed()],
    resolve: {
        alias: { "@posthouse/client": fileURLToPath(new URL("../web/src/index.ts", import.meta.url)) },
    },
    build: {
        target: "es2022",
        // No file is written into another one: `data:` is not among the sources of scripts and styles.
        assetsInlineLimit: 0,
        modulePreload: { polyfill: false },
        reportCompressedSize: false,
        rollupOptions: {
            onwarn(warning, warn) {
                // Comments and directives of a library for other bundlers.
                if (!["INVALID_ANNOTATION", "MODULE_LEVEL_DIRECTIVE"].includes(warning.code ?? ""))
                    warn(warning);
            },
        },
    },
    server: {
        // `npm run dev` beside `posthouse dev`.
        proxy: {
            "/api": MESSENGER,
            "/content": MESSENGER,
            "/app/config.json": MESSENGER,
            "/ws": { target: MESSENGER, ws: true },
        },
    },
    test: {
        environment: "happy-dom",
        include: ["test/**/*.test.{ts,tsx}"],
        setupFiles: ["test/setup.ts"],
        restoreMocks: true,
        // Conditions are waited for; this is for what never comes, on a machine that is busy with other suites.
        testTimeout: 60_000,
    },
} as Parameters<typeof defineConfig>[0]);

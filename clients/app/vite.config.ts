import { brotliCompressSync, constants, gzipSync } from "node:zlib";
import { fileURLToPath } from "node:url";
import { defineConfig, type Plugin } from "vite";

/** Below it a compressed file is no smaller on the wire. */
const MIN_COMPRESSED_BYTES = 1_000;
/** JavaScript on the first load, gzipped. Issue 11 has the number. */
const MAX_FIRST_LOAD_BYTES = 200_000;

/** Puts `x.br` and `x.gz` beside each text, so that the service web compresses nothing, and fails a build whose first load is too large. */
function compressed(): Plugin {
    return {
        name: "compressed",
        apply: "build",
        enforce: "post",
        generateBundle: {
            order: "post",
            handler(_options, bundle) {
                let firstLoadBytes = 0;
                for (const [name, file] of Object.entries(bundle)) {
                    const bytes = Buffer.from(file.type === "chunk" ? file.code : file.source);
                    if (!/\.(js|css|html|svg|json|webmanifest)$/.test(name)) continue;
                    const gzipped = gzipSync(bytes, { level: 9 });
                    if (file.type === "chunk" && !file.isDynamicEntry) firstLoadBytes += gzipped.length;
                    if (bytes.length < MIN_COMPRESSED_BYTES) continue;
                    const params = { [constants.BROTLI_PARAM_QUALITY]: constants.BROTLI_MAX_QUALITY };
                    const brotli = brotliCompressSync(bytes, { params });
                    this.emitFile({ type: "asset", fileName: `${name}.br`, source: brotli });
                    this.emitFile({ type: "asset", fileName: `${name}.gz`, source: gzipped });
                }
                this.info(`first load: ${firstLoadBytes} bytes of JavaScript, gzipped`);
                if (firstLoadBytes > MAX_FIRST_LOAD_BYTES) {
                    this.error(
                        `the first load has ${firstLoadBytes} bytes of JavaScript, gzipped; at most ${MAX_FIRST_LOAD_BYTES} are allowed`,
                    );
                }
            },
        },
    };
}

const MESSENGER = process.env["POSTHOUSE_URL"] ?? "http://127.0.0.1:7070";

export default defineConfig({
    // All files but the page are below this path on a tenant's address.
    base: "/app/",
    plugins: [compressed()],
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
    },
} as Parameters<typeof defineConfig>[0]);

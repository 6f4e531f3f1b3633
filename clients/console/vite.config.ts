import { brotliCompressSync, constants, gzipSync } from "node:zlib";
import { defineConfig, type Plugin } from "vite";

/** Below it a compressed file is no smaller on the wire. */
const MIN_COMPRESSED_BYTES = 1_000;
/** JavaScript on the first load, gzipped, as in clients/app. */
const MAX_FIRST_LOAD_BYTES = 200_000;

/** Puts `x.br` and `x.gz` beside each text, which the operator embeds, and fails a build whose first load is too large. */
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
                    if (!/\.(js|css|html|svg|json)$/.test(name)) continue;
                    const gzipped = gzipSync(bytes, { level: 9 });
                    if (file.type === "chunk" && !file.isDynamicEntry) firstLoadBytes += gzipped.length;
                    if (bytes.length < MIN_COMPRESSED_BYTES) continue;
                    const params = { [constants.BROTLI_PARAM_QUALITY]: constants.BROTLI_MAX_QUALITY };
                    const brotli = brotliCompressSync(bytes, { params });
                    this.emitFile({ type: "asset", fileName: `${name}.br`, source: brotli });
                    this.emitFile({ type: "asset", fileName: `${name}.gz`, source: gzipped });
                }
                this.info(`first load: ${firstLoadBytes} bytes of JavaScript, gzipped`);
                if (firstLoadBytes > MAX_FIRST_LOAD_BYTES)
                    this.error(`the first load has ${firstLoadBytes} bytes of JavaScript, gzipped`);
            },
        },
    };
}

/** `operator console --console-addr 127.0.0.1:8083 --api-server URL --api-ca FILE` */
const CONSOLE = process.env["POSTHOUSE_CONSOLE_URL"] ?? "http://127.0.0.1:8083";

export default defineConfig({
    plugins: [compressed()],
    // What is shared with clients/app finds the same React.
    resolve: { dedupe: ["react", "react-dom"] },
    build: {
        target: "es2022",
        // No file is written into another one: `data:` is not among the sources of scripts and styles.
        assetsInlineLimit: 0,
        modulePreload: { polyfill: false },
        reportCompressedSize: false,
    },
    server: { port: 5174, proxy: { "/k8s": CONSOLE } },
    test: {
        environment: "happy-dom",
        include: ["test/**/*.test.{ts,tsx}"],
        setupFiles: ["test/setup.ts"],
        restoreMocks: true,
        // Conditions are waited for; this is for what never comes, on a machine that is busy with other suites.
        testTimeout: 60_000,
    },
} as Parameters<typeof defineConfig>[0]);

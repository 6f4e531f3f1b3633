import { brotliCompressSync, constants, gzipSync } from "node:zlib";
import type { Plugin } from "vite";

/** Below it a compressed file is no smaller on the wire. */
const MIN_COMPRESSED_BYTES = 1_000;
/** JavaScript on the first load, gzipped. */
const MAX_FIRST_LOAD_BYTES = 200_000;

/** Puts `x.br` and `x.gz` beside each text, so that who serves it compresses nothing, and fails a build whose first load is too large. */
export function compressed(): Plugin {
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

import { defineConfig } from "vite";
import { compressed } from "../app/scripts/compressed";

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
    server: {
        port: 5174,
        proxy: { "/k8s": CONSOLE, "/watch": CONSOLE },
        // A new tenant begins with an example.
        fs: { allow: ["..", "../../examples/tenants"] },
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

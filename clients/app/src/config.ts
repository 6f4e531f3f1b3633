// What the address says of its messenger.
import { KEPT_HEADER } from "./worker/shell";

/** `GET /app/config.json`, by the service web. */
export type Config = {
    /** What users read as the name of the messenger. */
    name: string;
    /** The tenant's colour, as `#rrggbb`. */
    color?: string;
    /** A picture beside the name, as a `data:` URL. */
    logo?: string;
    /** The issuer of the realm, on whose page users sign in; absent where there is none, as in `posthouse dev`: then by name and password here. */
    realm?: string;
    /** The services that the tenant has. */
    services: string[];
    /** The messenger does not answer, and this is what it said at an earlier time. */
    isKept?: true;
};

export async function loadConfig(): Promise<Config> {
    const response = await fetch("/app/config.json", { signal: AbortSignal.timeout(10_000) });
    if (!response.ok) throw new Error(`/app/config.json: status ${response.status}`);
    const config = (await response.json()) as Config;
    return response.headers.has(KEPT_HEADER) ? { ...config, isKept: true } : config;
}

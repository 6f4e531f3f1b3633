// What users do and store, where it is known.
import type { ReactNode } from "react";
import { mediaQuotaOf, type Tenant } from "../resources";
import { usePage, useText } from "./context";

/** A figure as the operator rounded it. One that is not known says so. */
export function Count({ figure }: { figure: number | undefined }): ReactNode {
    const t = useText();
    const { texts } = usePage();
    return figure === undefined ? t("usage.unknown") : t("usage.about", { figure: texts.number(figure) });
}

/** What the files of a tenant take of the room for them. */
export function Files({ tenant }: { tenant: Tenant }): ReactNode {
    const t = useText();
    const { texts } = usePage();
    const quota = mediaQuotaOf(tenant);
    const used = tenant.status?.usage?.mediaBytes;
    if (used === undefined) return t("usage.files.unknown", { quota: texts.bytes(quota) });
    const text = t("usage.files.of", { used: texts.bytes(used), quota: texts.bytes(quota) });
    return (
        <>
            <meter min={0} max={quota} high={quota * 0.9} value={used} aria-label={t("usage.media")}>
                {text}
            </meter>{" "}
            {text}
        </>
    );
}

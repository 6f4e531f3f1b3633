// What the page behind the first link of a message says of itself.
import { useEffect, useMemo, type ReactNode } from "react";
import { useSource } from "../shared/source";
import { firstLink } from "../text/markup";
import { usePage, useText, useWorkspace } from "./context";

/** Of a picture in a preview, in CSS pixels. */
const PICTURE_PX = 72;

export function LinkPreview({ text, tabIndex }: { text: string; tabIndex: number }): ReactNode {
    const t = useText();
    const { config, preferences } = usePage();
    const { previews } = useWorkspace();
    const { showsPreviews } = useSource(preferences);
    const isPossible = showsPreviews && config.services.includes("media");
    const link = useMemo(() => (isPossible ? firstLink(text) : undefined), [isPossible, text]);
    const preview = useSource(previews);
    useEffect(() => {
        if (link !== undefined) previews.want(link);
    }, [previews, link]);
    const found = link === undefined ? undefined : preview.get(link);
    if (!found || (!found.title && !found.description)) return null;
    const { picture } = found;
    const isPicture = picture?.type.startsWith("image/") === true;
    return (
        <a
            className="link-preview"
            href={link}
            target="_blank"
            rel="noopener noreferrer nofollow"
            tabIndex={tabIndex}
            aria-label={t("preview.of", { name: found.title ?? found.site ?? "" })}
        >
            {picture && isPicture && (
                <img
                    src={`data:${picture.type};base64,${picture.data}`}
                    alt=""
                    width={PICTURE_PX}
                    height={PICTURE_PX}
                />
            )}
            <span className="words">
                {found.site && <small>{found.site}</small>}
                {found.title && <strong>{found.title}</strong>}
                {found.description && <span className="about">{found.description}</span>}
            </span>
        </a>
    );
}

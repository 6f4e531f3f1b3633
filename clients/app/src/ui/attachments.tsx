// Files of a message. Their bytes come from the messenger by links that are good for minutes; a picture has its place before it is there.
import type { socket } from "@posthouse/client";
import { useEffect, useMemo, useState, type ReactNode } from "react";
import { thumbHashToDataURL } from "thumbhash";
import { usePage, useText, useWorkspace } from "./context";
import { errorOf, Icon } from "./parts";

type Attachment = socket.Attachment;

/** Of a picture in a timeline, in CSS pixels. */
const MAX_WIDTH = 360;
const MAX_HEIGHT = 280;

type Props = { attachments: readonly Attachment[]; tabIndex: number };

export function Attachments({ attachments, tabIndex }: Props): ReactNode {
    return (
        <ul className="attachments">
            {attachments.map((attachment) => (
                <li key={attachment.file}>
                    {isShown(attachment) ? (
                        <Picture {...attachment} tabIndex={tabIndex} />
                    ) : (
                        <FileLink {...attachment} />
                    )}
                </li>
            ))}
        </ul>
    );
}

function isShown({ type, width, height }: Attachment): boolean {
    return type.startsWith("image/") && width !== undefined && height !== undefined;
}

/** Returns where a file is; nothing before that is known, and `false` when it cannot be fetched. */
function useLink(file: string, variant: "content" | "thumbnail"): string | false | undefined {
    const { files } = useWorkspace();
    const [link, setLink] = useState<string | false>();
    useEffect(() => {
        let isCurrent = true;
        files.links(file).then(
            (links) => isCurrent && setLink((variant === "thumbnail" && links.thumbnail) || links.content),
            () => isCurrent && setLink(false),
        );
        return () => void (isCurrent = false);
    }, [files, file, variant]);
    return link;
}

function Picture({
    file,
    name,
    width = 1,
    height = 1,
    blur,
    has_thumbnail,
    tabIndex,
}: Attachment & { tabIndex: number }): ReactNode {
    const t = useText();
    const { say } = usePage();
    const { files } = useWorkspace();
    const link = useLink(file, has_thumbnail ? "thumbnail" : "content");
    const scale = Math.min(1, MAX_WIDTH / width, MAX_HEIGHT / height);
    const placeholder = useMemo(() => blurred(blur), [blur]);
    const [isBroken, setIsBroken] = useState(false);
    const size = {
        width: Math.max(32, Math.round(width * scale)),
        height: Math.max(32, Math.round(height * scale)),
    };
    const open = () =>
        // A link may be over by now: the one that is opened is fetched with the click.
        void files.links(file).then(
            ({ content }) => void window.open(content, "_blank", "noopener"),
            (error: unknown) => say(t(errorOf(error).key)),
        );
    return (
        <button
            type="button"
            className="picture"
            style={size}
            tabIndex={tabIndex}
            onClick={open}
            aria-label={t("openPicture", { name })}
        >
            {placeholder && <img className="blur" src={placeholder} alt="" />}
            {link && !isBroken && (
                <img
                    src={link}
                    alt={name}
                    {...size}
                    loading="lazy"
                    decoding="async"
                    onError={() => setIsBroken(true)}
                />
            )}
            {(link === false || isBroken) && <span className="broken">{t("pictureMissing")}</span>}
        </button>
    );
}

function blurred(blur: string | undefined): string | undefined {
    if (blur === undefined) return undefined;
    try {
        return thumbHashToDataURL(Uint8Array.from(atob(blur), (character) => character.charCodeAt(0)));
    } catch {
        return undefined;
    }
}

function FileLink({ file, name, size, type, duration_ms }: Attachment): ReactNode {
    const { texts } = usePage();
    const t = useText();
    const link = useLink(file, "content");
    const inner = (
        <>
            <Icon name="file" /> <bdi className="file-name">{name}</bdi> <small>{texts.size(size)}</small>
        </>
    );
    if (!link) return <span className="file">{inner}</span>;
    const isFilm = type.startsWith("video/");
    if (isFilm || type.startsWith("audio/")) {
        const length = duration_ms === undefined ? undefined : texts.length(duration_ms);
        const label = length === undefined ? name : t("lasting", { name, length });
        const player = { src: link, controls: true, preload: "metadata", "aria-label": label } as const;
        return (
            <figure className="player">
                {isFilm ? <video className="film" {...player} /> : <audio {...player} />}
                <figcaption>
                    <bdi className="file-name">{name}</bdi> {length !== undefined && <small>{length}</small>}
                </figcaption>
            </figure>
        );
    }
    return (
        <a
            className="file"
            href={link}
            download={name}
            aria-label={t("downloadFile", { name, size: texts.size(size) })}
        >
            {inner}
        </a>
    );
}

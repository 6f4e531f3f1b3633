// Text of users as elements: Markdown and links. Nothing of it is ever HTML: what looks like a tag is shown as it was written.
import { Lexer, type Token, type Tokens } from "marked";
import { Fragment, useMemo, type ReactNode } from "react";

/** The schemes that a link may have; any other one is text. */
const SCHEMES = new Set(["http:", "https:", "mailto:"]);
/** Quotes in quotes and lists in lists beyond it are shown as text. */
const MAX_DEPTH = 8;
/** A longer text is shown as it is. The worst texts of this length, found by trying, are split within a frame or two. */
const MAX_PARSED_CHARACTERS = 4_096;
/** Characters that turn or hide what stands beside them (UTR 36). In the address of a link they are shown by their numbers. */
const TRICKY =
    /[\u00ad\u061c\u115f\u1160\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2069\u2800\u3164\ufeff\uffa0]/g;

/** Returns whether a link leads where a browser may go, and to nothing that runs. */
export function safeHref(href: string): string | undefined {
    try {
        // Without a scheme it would lead into this page.
        const url = new URL(href);
        return SCHEMES.has(url.protocol) ? url.href : undefined;
    } catch {
        return undefined;
    }
}

/** Returns the first link of a text that leads to a page, where links are looked for. */
export function firstLink(text: string): string | undefined {
    const links = linksOf(tokensOf(text) ?? []);
    return links.find((href) => /^https?:/.test(href));
}

function linksOf(tokens: readonly Token[], depth = 0): string[] {
    if (depth > MAX_DEPTH) return [];
    return tokens.flatMap((token) => {
        if (token.type === "link") return safeHref((token as Tokens.Link).href) ?? [];
        if (token.type === "list")
            return (token as Tokens.List).items.flatMap((item) => linksOf(item.tokens, depth + 1));
        return linksOf(("tokens" in token && token.tokens) || [], depth + 1);
    });
}

/** Returns a name without the characters that would turn or hide what stands beside it. */
export function plainName(name: string): string {
    return name.replace(TRICKY, "").trim();
}

/** Returns a text on one line and without its Markdown, for places with room for a line of it. One that is nothing else stays as it is. */
export function plainText(text: string): string {
    const parts = tokensOf(text)?.map((token) => plain(token, 0));
    const line = (of: string) => of.replace(/\s+/g, " ").trim();
    return (parts && line(parts.join(" "))) || line(text);
}

function plain(token: Token, depth: number): string {
    if (depth > MAX_DEPTH) return token.raw;
    switch (token.type) {
        case "space":
        case "def":
            return "";
        case "br":
            return " ";
        case "code":
        case "codespan":
        case "escape":
            return token.text;
        case "list":
            return (token as Tokens.List).items
                .map(({ tokens }) => tokens.map((part) => plain(part, depth + 1)).join(" "))
                .join(" ");
        case "link":
            // What leads nowhere is shown as it was written.
            if (safeHref((token as Tokens.Link).href) === undefined) return token.raw;
            break;
        case "paragraph":
        case "heading":
        case "blockquote":
        case "strong":
        case "em":
        case "del":
        case "text":
            break;
        default:
            return token.raw;
    }
    const parts = ("tokens" in token && token.tokens) || undefined;
    const between = token.type === "blockquote" ? " " : "";
    return parts
        ? parts.map((part) => plain(part, depth + 1)).join(between)
        : ((token as Tokens.Text).text ?? token.raw);
}

/** Shows a text with its Markdown. `mentions` are the usernames that the message calls. */
export function Markup({ text, mentions = [] }: { text: string; mentions?: readonly string[] }): ReactNode {
    const tokens = useMemo(() => tokensOf(text), [text]);
    return tokens ? <>{blocks(tokens, mentions, 0)}</> : <p>{text}</p>;
}

/** Returns the parts of a text, and nothing for one that is too much for it. */
function tokensOf(text: string): Token[] | undefined {
    if (text.length > MAX_PARSED_CHARACTERS) return undefined;
    try {
        return new Lexer({ gfm: true, breaks: true }).lex(text);
    } catch {
        // It calls itself for each quote in a quote: thousands of them are beyond the stack.
        return undefined;
    }
}

function blocks(tokens: readonly Token[], mentions: readonly string[], depth: number): ReactNode {
    return tokens.map((token, at) => <Fragment key={at}>{block(token, mentions, depth)}</Fragment>);
}

function block(token: Token, mentions: readonly string[], depth: number): ReactNode {
    if (depth > MAX_DEPTH) return <p>{token.raw}</p>;
    switch (token.type) {
        case "space":
        case "def":
            return null;
        case "paragraph":
            return <p>{inline(token.tokens ?? [], mentions, depth)}</p>;
        case "text":
            return token.tokens ? inline(token.tokens, mentions, depth) : words(token.text, mentions);
        case "heading":
            // A message is no document: its headings are not those of the page.
            return (
                <p>
                    <strong>{inline(token.tokens ?? [], mentions, depth)}</strong>
                </p>
            );
        case "code":
            return (
                <pre tabIndex={0} dir="ltr">
                    <code>{(token as Tokens.Code).text}</code>
                </pre>
            );
        case "blockquote":
            return <blockquote>{blocks(token.tokens ?? [], mentions, depth + 1)}</blockquote>;
        case "list": {
            const { ordered, start, items } = token as Tokens.List;
            const children = items.map((item, at) => (
                <li key={at}>{blocks(item.tokens, mentions, depth + 1)}</li>
            ));
            return ordered ? <ol start={start === "" ? 1 : start}>{children}</ol> : <ul>{children}</ul>;
        }
        case "checkbox":
            return token.raw;
        case "hr":
            return <hr />;
        default:
            // Tables and HTML: as they were written.
            return <p>{token.raw}</p>;
    }
}

function inline(tokens: readonly Token[], mentions: readonly string[], depth: number): ReactNode {
    return tokens.map((token, at) => <Fragment key={at}>{span(token, mentions, depth)}</Fragment>);
}

function span(token: Token, mentions: readonly string[], depth: number): ReactNode {
    if (depth > MAX_DEPTH) return token.raw;
    const inner = () => inline(("tokens" in token && token.tokens) || [], mentions, depth + 1);
    switch (token.type) {
        case "strong":
            return <strong>{inner()}</strong>;
        case "em":
            return <em>{inner()}</em>;
        case "del":
            return <del>{inner()}</del>;
        case "codespan":
            return <code dir="ltr">{token.text}</code>;
        case "br":
            return <br />;
        case "link":
            return <Link {...(token as Tokens.Link)} />;
        case "escape":
            return token.text;
        case "text":
            return words(token.text, mentions);
        default:
            // Images from elsewhere would tell their server who reads; HTML is no markup here.
            return token.raw;
    }
}

/** A link shows where it leads: what does not say it by itself is followed by the host, or by the address of a mail. */
function Link({ href, text, raw }: Pick<Tokens.Link, "href" | "text" | "raw">): ReactNode {
    const safe = safeHref(href);
    if (safe === undefined) return raw;
    const { protocol, host, pathname } = new URL(safe);
    const shown = text.replace(
        TRICKY,
        (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
    );
    return (
        <>
            <a href={safe} target="_blank" rel="noopener noreferrer nofollow">
                <bdi>{shown}</bdi>
            </a>
            {!saysWhere(text, href) && (
                <>
                    {" "}
                    <small className="host" dir="ltr">
                        ({protocol === "mailto:" ? pathname : host})
                    </small>
                </>
            )}
        </>
    );
}

/** Whether a text is the address that it leads to, and no more: with a host that is read as the browser reads it. */
function saysWhere(text: string, href: string): boolean {
    const isAddress = ["", "http://", "https://", "mailto:"].some(
        (scheme) => href === scheme + text || href === `${scheme}${text}/` || `${href}/` === scheme + text,
    );
    const { protocol, host, username, password } = new URL(href);
    if (!isAddress || protocol === "mailto:") return isAddress;
    // A user before the host looks like one, and letters of many alphabets look alike: in the host they are in punycode.
    const shown = text.toLowerCase().replace(/^https?:\/\//, "");
    return username + password === "" && shown.startsWith(host) && /^$|^[:/?#]/.test(shown.slice(host.length));
}

/** Marks the names of those whom the message calls. */
function words(text: string, mentions: readonly string[]): ReactNode {
    if (mentions.length === 0) return text;
    return text.split(/(@[\w.-]+)/u).map((part, at) => {
        if (at % 2 === 0) return part;
        // A full stop behind a name ends the sentence.
        const name = part.slice(1).replace(/[.-]+$/, "");
        if (!mentions.includes(name.toLowerCase())) return part;
        return (
            <Fragment key={at}>
                <span className="mention">@{name}</span>
                {part.slice(name.length + 1)}
            </Fragment>
        );
    });
}

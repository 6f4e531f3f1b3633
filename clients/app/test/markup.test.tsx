import { render } from "@testing-library/react";
import { Lexer } from "marked";
import { expect, test, vi } from "vitest";
import { Markup, plainName, plainText, safeHref } from "../src/text/markup";

const shown = (text: string, mentions: string[] = []) =>
    render(<Markup text={text} mentions={mentions} />).container;

test.each([
    "javascript:alert(1)",
    "JaVaScRiPt:alert(1)",
    " javascript:alert(1)",
    "data:text/html,<script>alert(1)</script>",
    "vbscript:x",
    "blob:https://acme.example/1",
    "file:///etc/passwd",
    "/api/auth/sign-out",
    "//evil.example",
])("%s is no link", (href) => {
    expect(safeHref(href)).toBeUndefined();
    const container = shown(`[click](${href})`);
    expect(container.querySelector("a")).toBeNull();
    expect(container.textContent).toContain("click");
});

test("what looks like HTML is text as it was written", () => {
    const text = '<img src=x onerror="alert(1)"> <script>alert(1)</script> <b>bold</b> &lt;i&gt;';
    const container = shown(text);
    expect(container.querySelector("img, script, b, i")).toBeNull();
    expect(container.textContent).toBe(text);
});

test("a picture from elsewhere is not fetched", () => {
    const container = shown("![cat](https://tracker.example/cat.png)");
    expect(container.querySelector("img")).toBeNull();
});

test("a link shows where it leads, and does not say who came", () => {
    const container = shown("[your bank](https://evil.example/login) https://acme.example/a?b=1&c=2");
    const [hidden, plain] = container.querySelectorAll("a");
    expect(container.textContent).toContain("(evil.example)");
    expect(hidden?.rel).toBe("noopener noreferrer nofollow");
    expect(plain?.textContent).toBe("https://acme.example/a?b=1&c=2");
});

test("characters that turn what follows are shown in a link, and taken out of a name", () => {
    expect(shown("[good\u202egnp.exe](https://a.example)").querySelector("a")?.textContent).toBe(
        "good\\u202egnp.exe",
    );
    expect(plainName("An\u200bna\u202e ")).toBe("Anna");
});

test("markup is what it says", () => {
    const container = shown("**a** *b* ~~c~~ `d`\n\n- e\n- f\n\n> g\n\n```\nh\n```");
    const tags = ["strong", "em", "del", "code", "ul", "blockquote", "pre"];
    for (const tag of tags) expect(container.querySelector(tag), tag).not.toBeNull();
});

test("quotes without end are shown, and what is beyond the lexer is text", () => {
    const deep = `${">".repeat(200)} end`;
    expect(shown(deep).textContent).toContain("end");
    const lex = vi.spyOn(Lexer.prototype, "lex").mockImplementation(() => {
        throw new RangeError("Maximum call stack size exceeded");
    });
    expect(shown("> text").textContent).toBe("> text");
    expect(lex).toHaveBeenCalledOnce();
});

test("a long text is shown as it is, without being split", () => {
    const lex = vi.spyOn(Lexer.prototype, "lex");
    const long = "a".repeat(16_384);
    expect(shown(long).textContent).toBe(long);
    expect(lex).not.toHaveBeenCalled();
});

test("only users whom the message calls are marked", () => {
    const container = shown("hi @anna. and @bob", ["anna"]);
    expect([...container.querySelectorAll(".mention")].map(({ textContent }) => textContent)).toEqual([
        "@anna",
    ]);
    expect(container.textContent).toBe("hi @anna. and @bob");
});

test.each([
    ["[bank.com](https://evil.example/bank.com)", "(evil.example)"],
    ["[https://bank.com](https://evil.example/#https://bank.com)", "(evil.example)"],
    ["[example](https://evil.example/)", "(evil.example)"],
    ["https://bank.com@evil.example/", "(evil.example)"],
    ["https://bаnk.com/", "(xn--bnk-6cd.com)"],
    ["https://bаnk.com/xn--bnk-6cd.com", "(xn--bnk-6cd.com)"],
    ["[help@bank.com](mailto:help@evil.example?subject=help@bank.com)", "(help@evil.example)"],
])("the host of %s cannot be taken for another", (text, host) => {
    expect(shown(text).querySelector(".host")?.textContent).toBe(host);
});

test.each([
    "https://acme.example",
    "https://acme.example/",
    "HTTPS://Acme.example/Path?a=b",
    "http://acme.example:8080/a",
    "www.acme.example/a",
    "anna@acme.example",
    "[acme.example](https://acme.example/)",
])("%s says itself where it leads", (text) => {
    const container = shown(text);
    expect(container.querySelector("a")).not.toBeNull();
    expect(container.querySelector(".host")).toBeNull();
});

test("fillers that look like nothing are taken out of a name", () => {
    expect(plainName("An\u3164na\u115f\u1160\u180e\u2800\uffa0")).toBe("Anna");
});

test.each([
    ["Shall we meet at the **harbour**?", "Shall we meet at the harbour?"],
    ["`code` and *more* and ~~less~~", "code and more and less"],
    ["# Title\n\n- one\n- *two*\n\n> said **so**", "Title one two said so"],
    ["[here](https://acme.example) and [there](javascript:alert(1))", "here and [there](javascript:alert(1))"],
    ["one\ntwo\n```\nlet a;\n```", "one two let a;"],
    ["2 \\* 3 <b>bold</b> &lt;", "2 * 3 <b>bold</b> &lt;"],
    ["---", "---"],
    ["[a]: https://acme.example", "[a]: https://acme.example"],
    ["  ", ""],
])("where a line has room for %j it reads %j", (text, line) => {
    expect(plainText(text)).toBe(line);
});

test("a text of a stranger that is too much for the parser is a line, too", () => {
    expect(plainText("> ".repeat(4_000))).toBe("> ".repeat(4_000).trim());
    expect(plainText("> ".repeat(1_500))).not.toBe("");
});

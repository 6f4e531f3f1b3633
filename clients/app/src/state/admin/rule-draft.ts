// A rule set while it is written: fields as they are typed, and the request that they make.
import type { moderation } from "@posthouse/client";

export const TESTS = ["words", "pattern", "links", "rate", "attachments", "classifier"] as const;
export type TestKind = (typeof TESTS)[number];

/** A sanction as a form has it; none when its kind is empty, and for good when `seconds` is empty. */
export type DraftTerms = { kind: moderation.SanctionKind | ""; everywhere: boolean; seconds: string };

export type DraftRule = {
    /** Tells the rules of a draft apart. */
    key: number;
    name: string;
    test: TestKind;
    /** Words, domains or types, one a line; a pattern; or a label. */
    text: string;
    /** Words are `exact`; of links and files, these alone are allowed. */
    isStrict: boolean;
    messages: string;
    seconds: string;
    percent: string;
    deletes: boolean;
    reports: boolean;
    terms: DraftTerms;
};

export type RuleSetDraft = { name: string; rules: DraftRule[] };

/** What is wrong with a draft: which text says it, and of which rule. */
export type DraftProblem = {
    what: "nameMissing" | "noRules" | "ruleNameMissing" | "ruleNameTwice" | "nothingToFind" | "nothingToDo";
    rule: string;
};

let keys = 0;

export function newRule(): DraftRule {
    return {
        ...{ key: ++keys, name: "", test: "words", text: "", isStrict: false },
        ...{ messages: "20", seconds: "60", percent: "90", deletes: false, reports: true },
        terms: { kind: "", everywhere: false, seconds: "" },
    };
}

/** Returns a draft with the rules of a set: a set never changes, and another one takes its place. */
export function draftOf(set: moderation.RuleSet): RuleSetDraft {
    return { name: set.name, rules: set.rules.map(ruleOf) };
}

function ruleOf({ name, test, action }: moderation.Rule): DraftRule {
    const { sanction } = action;
    return {
        ...newRule(),
        ...testOf(test),
        name,
        deletes: action.delete ?? false,
        reports: action.report ?? false,
        terms: {
            kind: sanction?.kind ?? "",
            everywhere: sanction?.everywhere ?? false,
            seconds: sanction?.seconds == null ? "" : String(sanction.seconds),
        },
    };
}

function testOf(test: moderation.RuleTest): Partial<DraftRule> & { test: TestKind } {
    if ("words" in test)
        return {
            test: "words",
            text: test.words.words.join("\n"),
            isStrict: test.words.exact ?? false,
        };
    if ("pattern" in test) return { test: "pattern", text: test.pattern.pattern };
    if ("links" in test)
        return {
            test: "links",
            text: test.links.domains.join("\n"),
            isStrict: test.links.allow_only ?? false,
        };
    if ("rate" in test)
        return {
            test: "rate",
            messages: String(test.rate.messages),
            seconds: String(test.rate.seconds),
        };
    if ("attachments" in test)
        return {
            test: "attachments",
            text: test.attachments.types.join("\n"),
            isStrict: test.attachments.allow_only ?? false,
        };
    return { test: "classifier", text: test.classifier.label, percent: String(test.classifier.percent) };
}

/** Returns the first thing that is wrong with a draft. The rest is for the messenger, which says it in its own words. */
export function problemOf({ name, rules }: RuleSetDraft): DraftProblem | undefined {
    if (name.trim() === "") return { what: "nameMissing", rule: "" };
    if (rules.length === 0) return { what: "noRules", rule: "" };
    const names = new Set<string>();
    for (const rule of rules) {
        const ruleName = rule.name.trim();
        if (ruleName === "") return { what: "ruleNameMissing", rule: "" };
        if (names.has(ruleName)) return { what: "ruleNameTwice", rule: ruleName };
        names.add(ruleName);
        // A list of what alone is allowed may be empty: then nothing is.
        const mayBeEmpty =
            rule.test === "rate" || (rule.isStrict && ["links", "attachments"].includes(rule.test));
        if (!mayBeEmpty && rule.text.trim() === "") return { what: "nothingToFind", rule: ruleName };
        if (!rule.deletes && !rule.reports && rule.terms.kind === "")
            return { what: "nothingToDo", rule: ruleName };
    }
    return undefined;
}

export function requestOf({ name, rules }: RuleSetDraft): moderation.CreateRuleSetRequest {
    return { name: name.trim(), rules: rules.map(requestedRule) };
}

function requestedRule(rule: DraftRule): moderation.Rule {
    const sanction = termsOf(rule.terms);
    return {
        name: rule.name.trim(),
        test: requestedTest(rule),
        action: {
            ...(rule.deletes && { delete: true }),
            ...(rule.reports && { report: true }),
            ...(sanction && { sanction }),
        },
    };
}

function requestedTest({ test, text, isStrict, ...rule }: DraftRule): moderation.RuleTest {
    const lines = text.split("\n").flatMap((line) => line.trim() || []);
    switch (test) {
        case "words":
            return { words: { words: lines, ...(isStrict && { exact: true }) } };
        case "pattern":
            return { pattern: { pattern: text } };
        case "links":
            return { links: { domains: lines, ...(isStrict && { allow_only: true }) } };
        case "rate":
            return { rate: { messages: Number(rule.messages), seconds: Number(rule.seconds) } };
        case "attachments":
            return { attachments: { types: lines, ...(isStrict && { allow_only: true }) } };
        case "classifier":
            return { classifier: { label: text.trim(), percent: Number(rule.percent) } };
    }
}

export function termsOf({ kind, everywhere, seconds }: DraftTerms): moderation.SanctionTerms | undefined {
    if (kind === "") return undefined;
    return {
        kind,
        ...(everywhere && { everywhere }),
        // A warning ends by itself.
        ...(seconds !== "" && kind !== "warning" && { seconds: Number(seconds) }),
    };
}

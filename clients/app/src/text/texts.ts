// The texts of the page in the user's language. A language is one file in `languages`; its texts, plurals and times need no code.
import en from "./languages/en.json";

/** A text, or one for each category of a number (CLDR: one, few, many, other). */
export type Text = string | Partial<Record<Intl.LDMLPluralRule, string>>;

export type Key = keyof typeof en;
export type Values = Record<string, string | number>;

/** Loads the texts of a language, by the path of its file. */
export type Languages<K extends string> = Record<string, () => Promise<Record<K, Text>>>;

/** Those that are loaded when they are chosen. English is always there: it has the texts that another one lacks. */
const LANGUAGES: Languages<Key> = import.meta.glob<Record<Key, Text>>(
    ["./languages/*.json", "!./languages/en.json"],
    { import: "default" },
);

/** Tags of the languages that there are, by their files. */
export const LANGUAGE_TAGS: readonly string[] = [
    "en",
    ...Object.keys(LANGUAGES).map((path) => path.replace(/^.*\/(.*)\.json$/, "$1")),
].sort();

const MINUTE_MS = 60_000;
const DAY_MS = 86_400_000;
const UNITS = [
    ["year", 365 * 86_400],
    ["week", 604_800],
    ["day", 86_400],
    ["hour", 3_600],
    ["minute", 60],
] as const;
const RIGHT_TO_LEFT = new Set(["ar", "arc", "ckb", "dv", "fa", "he", "nqo", "ps", "sd", "ug", "ur", "yi"]);

/** The texts of one language, and how it writes numbers, times and lists. `K` names the texts: those of the page, or of a part that is loaded later. */
export class Texts<K extends string = Key> {
    readonly #texts: Record<string, Text>;
    readonly #english: Record<string, Text>;
    readonly #plural: Intl.PluralRules;
    readonly #number: Intl.NumberFormat;
    readonly #list: Intl.ListFormat;
    readonly #formats = new Map<string, Intl.DateTimeFormat>();

    constructor(
        readonly language: string,
        texts: Record<string, Text>,
        english: Record<string, Text> = en,
    ) {
        this.#texts = texts;
        this.#english = english;
        this.#plural = new Intl.PluralRules(language);
        this.#number = new Intl.NumberFormat(language);
        this.#list = new Intl.ListFormat(language);
    }

    /** Loads a language. One that does not come, as without a connection, is English until the next load. */
    static async load(language: string, languages = LANGUAGES): Promise<Texts> {
        const texts = await languages[`./languages/${language}.json`]?.().catch(() => undefined);
        return texts ? new Texts(language, texts) : new Texts("en", en);
    }

    get direction(): "ltr" | "rtl" {
        return RIGHT_TO_LEFT.has(new Intl.Locale(this.language).language) ? "rtl" : "ltr";
    }

    /** Returns a text with its `{values}`. The value `count` chooses among plurals. */
    of(key: K, values: Values = {}): string {
        // A kind of entry of a later release has no text.
        const text: Text = this.#texts[key] ?? this.#english[key] ?? "";
        const count = Number(values["count"] ?? 0);
        const chosen =
            typeof text === "string"
                ? text
                : (text as Partial<Record<string, string>>)[this.#plural.select(count)];
        const template = chosen ?? (text as { other?: string }).other ?? key;
        return template.replace(/\{(\w+)\}/g, (whole, name: string) => {
            const value = values[name];
            return typeof value === "number" ? this.#number.format(value) : (value ?? whole);
        });
    }

    list(items: readonly string[]): string {
        return this.#list.format(items);
    }

    number(value: number): string {
        return this.#number.format(value);
    }

    /** Returns the time of day. */
    time(atMs: number): string {
        return this.#format({ hour: "numeric", minute: "2-digit" }).format(atMs);
    }

    /** Returns the whole moment. */
    moment(atMs: number): string {
        return this.#format({ dateStyle: "full", timeStyle: "medium" }).format(atMs);
    }

    /** Returns the day: today and yesterday by these words. */
    day(atMs: number, nowMs: number): string {
        const days = daysBetween(atMs, nowMs);
        if (days >= 0 && days < 2)
            return new Intl.RelativeTimeFormat(this.language, { numeric: "auto" }).format(-days, "day");
        const isThisYear = new Date(atMs).getFullYear() === new Date(nowMs).getFullYear();
        return this.#format({ day: "numeric", month: "long", ...(!isThisYear && { year: "numeric" }) }).format(
            atMs,
        );
    }

    /** Returns when something was, as short as a list has room: the time of today, the day of this week, or the date. */
    short(atMs: number, nowMs: number): string {
        const days = daysBetween(atMs, nowMs);
        if (days < 1) return this.time(atMs);
        if (days < 7) return this.#format({ weekday: "short" }).format(atMs);
        return this.#format({ dateStyle: "short" }).format(atMs);
    }

    /** Returns how long ago something was. */
    ago(atMs: number, nowMs: number): string {
        const minutes = Math.round((atMs - nowMs) / MINUTE_MS);
        const format = new Intl.RelativeTimeFormat(this.language, { numeric: "auto" });
        if (minutes > -60) return format.format(Math.min(0, minutes), "minute");
        if (minutes > -24 * 60) return format.format(Math.round(minutes / 60), "hour");
        return format.format(Math.round(minutes / 60 / 24), "day");
    }

    /** Returns a size in bytes, in the largest unit of which there is one. */
    size(bytes: number): string {
        const units = ["byte", "kilobyte", "megabyte", "gigabyte"];
        const power = Math.min(units.length - 1, Math.floor(Math.log10(Math.max(1, bytes)) / 3));
        const style = {
            style: "unit",
            unitDisplay: "short",
            maximumFractionDigits: power > 1 ? 1 : 0,
        } as const;
        return new Intl.NumberFormat(this.language, { ...style, unit: units[power]! }).format(
            bytes / 1000 ** power,
        );
    }

    /** Returns a time span in the largest unit that it is a whole number of. */
    span(seconds: number): string {
        const [unit, size] = UNITS.find(([, size]) => seconds >= size && seconds % size === 0) ?? ["second", 1];
        const style = { style: "unit", unitDisplay: "long", unit } as const;
        return new Intl.NumberFormat(this.language, style).format(seconds / size);
    }

    /** Returns how long a film or a sound is, as players show it. */
    length(ms: number): string {
        const seconds = Math.round(ms / 1_000);
        const two = (value: number) => String(value).padStart(2, "0");
        const [hours, minutes] = [Math.floor(seconds / 3_600), Math.floor(seconds / 60) % 60];
        const rest = two(seconds % 60);
        return hours > 0 ? `${hours}:${two(minutes)}:${rest}` : `${minutes}:${rest}`;
    }

    /** Returns the day and the time of day. */
    date(atMs: number): string {
        return this.#format({ dateStyle: "medium", timeStyle: "short" }).format(atMs);
    }

    /** Returns the name of a language in that language. */
    static languageName(tag: string): string {
        return new Intl.DisplayNames([tag], { type: "language" }).of(tag) ?? tag;
    }

    #format(options: Intl.DateTimeFormatOptions): Intl.DateTimeFormat {
        const key = JSON.stringify(options);
        const format = this.#formats.get(key) ?? new Intl.DateTimeFormat(this.language, options);
        this.#formats.set(key, format);
        return format;
    }
}

/** Returns the language that fits best: the chosen one, then those of the browser, then English. */
export function bestLanguage(chosen: string | undefined, preferred: readonly string[]): string {
    for (const tag of [chosen, ...preferred]) {
        if (tag === undefined) continue;
        const language = tag.toLowerCase().split("-")[0]!;
        const found =
            LANGUAGE_TAGS.find((known) => known === tag) ?? LANGUAGE_TAGS.find((known) => known === language);
        if (found) return found;
    }
    return "en";
}

/** Returns how many midnights of this place are between two moments. */
function daysBetween(atMs: number, nowMs: number): number {
    const midnight = (ms: number) => new Date(ms).setHours(0, 0, 0, 0);
    return Math.round((midnight(nowMs) - midnight(atMs)) / DAY_MS);
}

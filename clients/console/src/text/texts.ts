// The texts of the page in the user's language. A language is one file in `languages`.
import en from "./languages/en.json";

/** A text, or one for each category of a number (CLDR: one, few, many, other). */
type Text = string | Partial<Record<Intl.LDMLPluralRule, string>>;

export type Key = keyof typeof en;
export type Values = Record<string, string | number>;

/** Loads the texts of a language, by the path of its file. */
type Languages = Record<string, () => Promise<Record<Key, Text>>>;

/** Those that are loaded when they are chosen. English is always there. */
const LANGUAGES: Languages = import.meta.glob<Record<Key, Text>>(
    ["./languages/*.json", "!./languages/en.json"],
    { import: "default" },
);

const MINUTE_MS = 60_000;
const BYTES = ["unit.B", "unit.KiB", "unit.MiB", "unit.GiB", "unit.TiB"] as const satisfies readonly Key[];

/** The texts of one language, and how it writes numbers and times. */
export class Texts {
    readonly #texts: Record<string, Text>;
    readonly #plural: Intl.PluralRules;
    readonly #number: Intl.NumberFormat;
    readonly #moment: Intl.DateTimeFormat;
    readonly #time: Intl.DateTimeFormat;

    constructor(
        readonly language: string,
        texts: Record<string, Text>,
    ) {
        this.#texts = texts;
        this.#plural = new Intl.PluralRules(language);
        this.#number = new Intl.NumberFormat(language, { maximumFractionDigits: 2 });
        this.#moment = new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "medium" });
        this.#time = new Intl.DateTimeFormat(language, { timeStyle: "medium" });
    }

    /** Loads the first language of those preferred that there is, or English. One that does not come is passed over. */
    static async load(preferred: readonly string[], languages = LANGUAGES): Promise<Texts> {
        for (const tag of preferred) {
            const language = tag.toLowerCase().split("-")[0]!;
            if (language === "en") break;
            const texts = await languages[`./languages/${language}.json`]?.().catch(() => undefined);
            if (texts) return new Texts(language, texts);
        }
        return new Texts("en", en);
    }

    /** Returns a text with its `{values}`. The value `count` chooses among plurals. */
    of(key: Key, values: Values = {}): string {
        const text: Text = this.#texts[key] ?? en[key];
        const template =
            typeof text === "string"
                ? text
                : (text[this.#plural.select(Number(values["count"] ?? 0))] ?? text.other ?? key);
        return template.replace(/\{(\w+)\}/g, (whole, name: string) => {
            const value = values[name];
            return typeof value === "number" ? this.number(value) : (value ?? whole);
        });
    }

    number(value: number): string {
        return this.#number.format(value);
    }

    /** Returns a part of a whole in percent. */
    percent(part: number): string {
        const format = new Intl.NumberFormat(this.language, { style: "percent", maximumFractionDigits: 2 });
        return format.format(part);
    }

    moment(atMs: number): string {
        return this.#moment.format(atMs);
    }

    time(atMs: number): string {
        return this.#time.format(atMs);
    }

    list(items: readonly string[]): string {
        return new Intl.ListFormat(this.language).format(items);
    }

    /** Returns how old something is, in its largest unit. */
    age(atMs: number, nowMs: number): string {
        const minutes = Math.max(0, Math.floor((nowMs - atMs) / MINUTE_MS));
        const [value, unit] =
            minutes < 60
                ? [minutes, "minute"]
                : minutes < 48 * 60
                  ? [Math.floor(minutes / 60), "hour"]
                  : [Math.floor(minutes / 60 / 24), "day"];
        return new Intl.NumberFormat(this.language, { style: "unit", unit, unitDisplay: "short" }).format(
            value,
        );
    }

    /** Returns a number of bytes in binary units, as manifests have them. */
    bytes(bytes: number): string {
        const power = bytes < 1 ? 0 : Math.min(BYTES.length - 1, Math.floor(Math.log2(bytes) / 10));
        const format = new Intl.NumberFormat(this.language, { maximumFractionDigits: power > 2 ? 1 : 0 });
        return `${format.format(bytes / 2 ** (10 * power))} ${this.of(BYTES[power]!)}`;
    }
}

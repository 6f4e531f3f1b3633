// Names that look like one another. What is made of a name here is compared, and never shown.

/** Letters of other alphabets, and signs, beside what they look like. In a name in small letters, `I` and `l` are one. */
const LIKE = new Map(
    "аa вb еe кk мm нh оo рp сc тt уy хx іl јj ѕs ԁd һh ӏl ԛq ԝw αa βb εe ζz ιl κk μm οo ρp τt υu χx ıl łl øo đd 0o 1l |l il"
        .split(" ")
        .map((pair) => [...pair] as [string, string]),
);

/** Marks and signs between letters, and what is not seen at all. */
const UNSEEN = /[\p{M}\p{P}\p{C}\s\u115f\u1160\u2800]/gu;

/** Returns what two names have in common when they look alike: empty for one of signs alone, which looks like nothing. */
export function likeness(name: string): string {
    const letters = name.normalize("NFKD").replace(UNSEEN, "").toLowerCase();
    return [...letters]
        .map((letter) => LIKE.get(letter) ?? letter)
        .join("")
        .replaceAll("rn", "m")
        .replaceAll("vv", "w");
}

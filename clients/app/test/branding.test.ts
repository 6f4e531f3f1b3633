import { expect, test } from "vitest";
import { accents, paint } from "../src/branding";

test("a colour that is seen stays as it is", () => {
    expect(accents("#1F5F8B")?.light).toEqual({ accent: "#1f5f8b", onAccent: "#ffffff" });
    expect(accents("#7cbcec")?.dark).toEqual({ accent: "#7cbcec", onAccent: "#000000" });
});

test("one that is not is darker in the light and lighter in the dark", () => {
    // Yellow is no text on white, and navy none on black.
    expect(accents("#ffe600")?.light.accent).toMatch(/^#[4-7]/);
    expect(accents("#ffe600")?.dark.accent).toBe("#ffe600");
    expect(accents("#000080")?.light.accent).toBe("#000080");
    expect(accents("#000080")?.dark.accent).toMatch(/^#[7-b].*[d-f].$/);
});

test.each([undefined, "", "red", "#fff", "#12345g", "#1234567", "#123456;x"])("%s is no colour", (text) => {
    expect(accents(text)).toBeUndefined();
});

test("a page is in the colour of its tenant, and in its own without one", () => {
    const { style } = document.createElement("div");
    paint("#1f5f8b", style);
    expect(style.getPropertyValue("--accent")).toMatch(/^light-dark\(#1f5f8b, #\w{6}\)$/);
    expect(style.getPropertyValue("--on-accent")).toBe("light-dark(#ffffff, #000000)");
    paint(undefined, style);
    expect(style.getPropertyValue("--accent")).toBe("");
});

// A whole conversation without a pointer.
import { expect, test } from "./stand";

test("a conversation by keyboard alone", async ({ actors }) => {
    const [anna, boris] = await actors(2);
    const { page } = anna!;
    await page.getByRole("button", { name: "New chat" }).focus();
    await page.keyboard.press("Enter");
    await page.keyboard.type(boris!.name);
    await expect(page.getByRole("button", { name: `@${boris!.name}` })).toBeVisible();
    await page.keyboard.press("Tab");
    await page.keyboard.press("Enter");
    await page.getByRole("button", { name: "Start the chat" }).focus();
    await page.keyboard.press("Enter");
    await expect(anna!.composer).toBeVisible();
    await anna!.composer.focus();
    await page.keyboard.type("first");
    await page.keyboard.press("Enter");
    await page.keyboard.type("second");
    await page.keyboard.press("Enter");
    await expect(anna!.message("second").getByText(/Sent|Delivered/)).toBeAttached();

    // Up from the last message, and to its actions by Tab.
    await anna!.messages.getByRole("article").last().focus();
    await page.keyboard.press("ArrowUp");
    await expect(anna!.message("first")).toBeFocused();
    await page.keyboard.press("Tab");
    await expect(page.getByRole("button", { name: "React" }).first()).toBeFocused();
    await page.keyboard.press("Enter");
    await page.keyboard.press("ArrowRight");
    await page.keyboard.press("Enter");
    await expect(anna!.message("first").getByRole("button", { name: /❤️, 1 user/ })).toBeVisible();

    // A dialog keeps the focus, and gives it back.
    await page.getByRole("button", { name: "Settings" }).focus();
    await page.keyboard.press("Enter");
    await expect(page.getByRole("dialog", { name: "Settings" })).toBeVisible();
    await page.keyboard.press("Escape");
    await expect(page.getByRole("button", { name: "Settings" })).toBeFocused();
});

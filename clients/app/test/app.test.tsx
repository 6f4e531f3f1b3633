// The page as a whole, over the library, against a messenger that speaks the protocol.
import { act, render, screen, waitFor, within, type RenderResult } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { beforeEach, expect, test } from "vitest";
import { Preferences } from "../src/preferences";
import { SignIn } from "../src/sign-in";
import { Texts } from "../src/text/texts";
import { App } from "../src/ui/app";
import { FakeMessenger } from "./messenger";
import { CHAT } from "./stand";

let messenger: FakeMessenger;

beforeEach(() => {
    messenger = new FakeMessenger();
    messenger.install();
});

/** Opens the page, and signs in. */
async function opened(): Promise<RenderResult> {
    const signIn = new SignIn({ name: "Acme", services: ["search"] });
    const page = render(
        <App signIn={signIn} preferences={new Preferences()} firstTexts={await Texts.load("en")} />,
    );
    await userEvent.type(await screen.findByLabelText("Username"), "me");
    await userEvent.type(screen.getByLabelText("Password"), "a password");
    await userEvent.click(screen.getByRole("button", { name: "Sign in" }));
    return page;
}

async function openChat(): Promise<HTMLElement> {
    await screen.findByRole("link", { name: /Harbour/ });
    act(() => {
        location.hash = `#/chat/${CHAT}`;
        window.dispatchEvent(new HashChangeEvent("hashchange"));
    });
    return screen.findByRole("textbox", { name: "Message" });
}

test("a tenant is known by its name, its colour and its logo", async () => {
    messenger.isSignedIn = false;
    const logo = "data:image/png;base64,iVBORw0KGgo=";
    const signIn = new SignIn({ name: "Umbrella & Söhne", color: "#1f5f8b", logo, services: [] });
    const { container } = render(
        <App signIn={signIn} preferences={new Preferences()} firstTexts={await Texts.load("en")} />,
    );
    expect((await screen.findByRole("heading")).textContent).toBe("Umbrella & Söhne");
    expect(document.title).toBe("Umbrella & Söhne");
    // It says nothing that the heading does not.
    expect(container.querySelector("img.logo")).toMatchObject({ src: logo, alt: "" });
    expect(document.documentElement.style.getPropertyValue("--accent")).toContain("#1f5f8b");
});

test("a wrong password is said so, and the form stays", async () => {
    messenger.isSignedIn = false;
    await opened();
    expect((await screen.findByRole("alert")).textContent).toContain("wrong");
    expect(screen.getByLabelText("Username")).toHaveProperty("value", "me");
});

test("a user signs in, sees the chats, and what comes is counted", async () => {
    messenger.say("first");
    await opened();
    const list = await screen.findByRole("navigation", { name: "Chats" });
    const chat = await within(list).findByRole("link", { name: /Harbour/ });
    await waitFor(() => expect(chat.textContent).toContain("Anna: first"));
    act(() => messenger.say("second"));
    await waitFor(() => expect(chat.textContent).toContain("second"));
});

test("what is sent without a connection goes out once it is back, once", async () => {
    await opened();
    const field = await openChat();
    act(() => messenger.down());
    await screen.findByText(/No connection/, { selector: ".connection" });
    await userEvent.type(field, "from the tunnel{Enter}");
    expect(messenger.log).toEqual([]);
    messenger.up();
    await waitFor(() => expect(messenger.log.map(({ body }) => body)).toEqual(["from the tunnel"]), {
        timeout: 5_000,
    });
    await waitFor(() => expect(screen.queryByText(/No connection/, { selector: ".connection" })).toBeNull());
});

test("what was not sent when the page was closed goes out with the next one, once", async () => {
    const page = await opened();
    const field = await openChat();
    act(() => messenger.down());
    await userEvent.type(field, "before the lid closes{Enter}");
    await userEvent.type(field, "and a draft");
    page.unmount();
    // The session of a closed page ends in the next turn.
    await new Promise((resolve) => setTimeout(resolve));
    messenger.up();
    history.replaceState(null, "", "/");
    await opened();
    await waitFor(() => expect(messenger.log.map(({ body }) => body)).toEqual(["before the lid closes"]), {
        timeout: 5_000,
    });
    expect(await openChat()).toHaveProperty("value", "and a draft");
});

test("a chat that the user is not in is said so", async () => {
    history.replaceState(null, "", `/#/chat/${CHAT.replace("3", "4")}`);
    await opened();
    expect((await screen.findByText("You are not in this chat.")).getAttribute("role")).toBe("alert");
});

test("settings change the language at once, and it stays", async () => {
    history.replaceState(null, "", "/#/?panel=settings");
    await opened();
    await userEvent.selectOptions(await screen.findByLabelText("Language"), "ru");
    expect(await screen.findByRole("heading", { name: "Настройки" })).toBeDefined();
    await waitFor(() => expect(document.documentElement.lang).toBe("ru"));
    expect(new Preferences().language).toBe("ru");
});

test("no token is in what the browser keeps", async () => {
    await opened();
    await screen.findByRole("link", { name: /Harbour/ });
    expect(JSON.stringify([{ ...localStorage }, { ...sessionStorage }])).not.toMatch(/"(a|r)"|token/);
});

// What a browser forgets of a user by itself, with no messenger to ask.
import { expect, test, vi } from "vitest";
import { forgetUser } from "../src/forget";
import { ME } from "./stand";

test.each(["all", "all-but-unsent"] as const)(
    "a browser that forgets %s gets no pushes, and shows none",
    async (extent) => {
        const [unsubscribe, close] = [vi.fn(async () => true), vi.fn()];
        const registration = {
            pushManager: { getSubscription: async () => ({ unsubscribe }) },
            // One of a push that said nothing has no chat.
            getNotifications: async () => [
                { data: { chat: "c" }, close },
                { data: null, close },
            ],
        };
        vi.stubGlobal("navigator", { serviceWorker: { getRegistration: async () => registration } });
        localStorage.setItem("posthouse.push", JSON.stringify({ user: ME, id: "s" }));
        localStorage.setItem("posthouse.signed-in", ME);
        localStorage.setItem("posthouse.device", "d");
        await forgetUser(ME, extent);
        expect(unsubscribe).toHaveBeenCalledOnce();
        expect(close).toHaveBeenCalledTimes(2);
        // By it, the page knows when another user signs in than the one who was here.
        expect(Object.keys({ ...localStorage })).toEqual(extent === "all" ? [] : ["posthouse.push"]);
        vi.unstubAllGlobals();
    },
);

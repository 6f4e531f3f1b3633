import { cleanup, configure } from "@testing-library/react";
import { afterEach } from "vitest";

// A busy machine draws late; what never comes fails all the same.
configure({ asyncUtilTimeout: 15_000 });

afterEach(() => {
    cleanup();
    localStorage.clear();
    history.replaceState(null, "", "/");
});

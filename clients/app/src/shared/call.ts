// One call at a time.
import { useState } from "react";

/** Runs one call at a time for a form, and keeps what went wrong with it. */
export function useCall(): { isBusy: boolean; error: unknown; run: (call: () => Promise<void>) => void } {
    const [state, setState] = useState<{ isBusy: boolean; error: unknown }>({
        isBusy: false,
        error: undefined,
    });
    const run = (call: () => Promise<void>) => {
        if (state.isBusy) return;
        setState({ isBusy: true, error: undefined });
        call().then(
            () => setState({ isBusy: false, error: undefined }),
            (error: unknown) => setState({ isBusy: false, error }),
        );
    };
    return { ...state, run };
}

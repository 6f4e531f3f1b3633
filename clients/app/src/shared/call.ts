// Calls of components: what a user does, one at a time, and what is read.
import { useEffect, useRef, useState, type DependencyList } from "react";
import { Reading } from "./reading";

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

/**
 * Reads something with each change of `deps`, and again with `reload`, which does not reject. Of reads that overlap the newest counts. What was read
 * stays beside an error that came later.
 */
export function useRead<T>(
    read: () => Promise<T>,
    deps: DependencyList,
): { value: T | undefined; error: unknown; reload: () => Promise<void> } {
    const [{ value, error }, setState] = useState<{ value?: T; error: unknown }>({ error: undefined });
    const latest = useRef(read);
    const [reading] = useState(
        () =>
            new Reading((isNewest) =>
                latest.current().then(
                    (value) => {
                        if (isNewest()) setState({ value, error: undefined });
                    },
                    (error: unknown) => {
                        if (isNewest()) setState((before) => ({ ...before, error }));
                    },
                ),
            ),
    );
    useEffect(() => {
        latest.current = read;
    });
    useEffect(() => void reading.again(), deps);
    return { value, error, reload: () => reading.again() };
}

// What every component may use without being handed it.
import { createContext, useCallback, useContext, useMemo, type ReactNode } from "react";
import { useLiveRegion } from "../../../app/src/shared/live-region";
import type { Key, Texts, Values } from "../text/texts";

type Page = { texts: Texts; say: (text: string) => void };

const PageContext = createContext<Page | undefined>(undefined);

/** Gives the texts to all below, with a live region in which `say` speaks to who does not see the screen. */
export function PageProvider({ texts, children }: { texts: Texts; children: ReactNode }): ReactNode {
    const [say, region] = useLiveRegion();
    const page = useMemo(() => ({ texts, say }), [texts, say]);
    return (
        <PageContext value={page}>
            {children}
            {region}
        </PageContext>
    );
}

export function usePage(): Page {
    const page = useContext(PageContext);
    if (!page) throw new Error("there is no page around this component");
    return page;
}

/** Returns what says a text in the user's language. */
export function useText(): (key: Key, values?: Values) => string {
    const { texts } = usePage();
    return useCallback((key, values) => texts.of(key, values), [texts]);
}

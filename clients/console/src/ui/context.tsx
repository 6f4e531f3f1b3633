// What every component may use without being handed it.
import { createContext, useCallback, useContext, useMemo, useState, type ReactNode } from "react";
import type { Key, Texts, Values } from "../text/texts";

type Page = { texts: Texts; say: (text: string) => void };

const PageContext = createContext<Page | undefined>(undefined);

/** Gives the texts to all below, with a live region in which `say` speaks to who does not see the screen. */
export function PageProvider({ texts, children }: { texts: Texts; children: ReactNode }): ReactNode {
    const [said, setSaid] = useState({ text: "", turn: 0 });
    // The same text twice is two announcements: a region with another key is read.
    const say = useCallback((text: string) => setSaid(({ turn }) => ({ text, turn: turn + 1 })), []);
    const page = useMemo(() => ({ texts, say }), [texts, say]);
    return (
        <PageContext value={page}>
            {children}
            <div className="visually-hidden" role="status" aria-live="polite">
                <span key={said.turn}>{said.text}</span>
            </div>
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

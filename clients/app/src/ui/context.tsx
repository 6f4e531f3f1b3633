// What every component may use without being handed it.
import { createContext, useCallback, useContext, useMemo, type ReactNode } from "react";
import { useLiveRegion } from "../shared/live-region";
import type { Config } from "../config";
import type { Preferences } from "../preferences";
import type { Workspace } from "../state/workspace";
import type { Key, Texts, Values } from "../text/texts";

/** The page, signed in or not. */
export type Page = { config: Config; texts: Texts; preferences: Preferences; say: (text: string) => void };

const PageContext = createContext<Page | undefined>(undefined);
const WorkspaceContext = createContext<Workspace | undefined>(undefined);

export const WorkspaceProvider = WorkspaceContext.Provider;

type PageProps = Omit<Page, "say"> & { children: ReactNode };

/** Gives the page to all below, with a live region in which `say` speaks to who does not see the screen. */
export function PageProvider({ config, texts, preferences, children }: PageProps): ReactNode {
    const [say, region] = useLiveRegion();
    // What is said renders the region, and nothing of the page.
    const page = useMemo(() => ({ config, texts, preferences, say }), [config, texts, preferences, say]);
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

export function useWorkspace(): Workspace {
    const workspace = useContext(WorkspaceContext);
    if (!workspace) throw new Error("there is no workspace around this component");
    return workspace;
}

import { useCallback, useState, type ReactNode } from "react";

/** Returns `say`, which speaks to who does not see the screen and stays the same function, and the live region in which it does. */
export function useLiveRegion(): [say: (text: string) => void, region: ReactNode] {
    const [said, setSaid] = useState({ text: "", turn: 0 });
    // The same text twice is two announcements: a region with another key is read.
    const say = useCallback((text: string) => setSaid(({ turn }) => ({ text, turn: turn + 1 })), []);
    const region = (
        <div className="visually-hidden" role="status" aria-live="polite">
            <span key={said.turn}>{said.text}</span>
        </div>
    );
    return [say, region];
}

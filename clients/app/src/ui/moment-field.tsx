// When a message is to be sent.
import { useId, type ReactNode } from "react";
import { usePage, useText } from "./context";
import { fromField, MAX_AHEAD_MS, offeredMoments, toField } from "./moments";

const MINUTE_MS = 60_000;

/** Returns whether a moment can be chosen: it is to come, and not too far ahead. */
export function isPossible(atMs: number | undefined, nowMs: number): atMs is number {
    return atMs !== undefined && atMs > nowMs && atMs <= nowMs + MAX_AHEAD_MS;
}

export function MomentField({
    value,
    onChange,
}: {
    value: string;
    onChange: (value: string) => void;
}): ReactNode {
    const t = useText();
    const { texts } = usePage();
    const id = useId();
    const now = Date.now();
    const offered = offeredMoments(now);
    const atMs = fromField(value);
    const isWrong = atMs !== undefined && !isPossible(atMs, now);
    return (
        <div className="field">
            <label htmlFor={id}>{t("schedule.when")}</label>
            <input
                id={id}
                type="datetime-local"
                required
                value={value}
                min={toField(now + MINUTE_MS)}
                max={toField(now + MAX_AHEAD_MS)}
                aria-invalid={isWrong}
                aria-describedby={`${id}-hint`}
                onChange={(event) => onChange(event.target.value)}
            />
            <small id={`${id}-hint`} className="hint">
                {isWrong ? t("schedule.past") : t("schedule.hint")}
            </small>
            <div className="row">
                {(["hour", "tomorrow", "monday"] as const).map((name) => (
                    <button
                        key={name}
                        type="button"
                        title={texts.date(offered[name])}
                        onClick={() => onChange(toField(offered[name]))}
                    >
                        {t(`schedule.${name}`)}
                    </button>
                ))}
            </div>
        </div>
    );
}

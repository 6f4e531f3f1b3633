// Users who say that a sanction is wrong.
import type { moderation } from "@posthouse/client";
import { useEffect, useState, type ReactNode } from "react";
import { useCall } from "../parts";
import { useAdmin, useAdminText } from "./context";
import {
    AdminError,
    DecisionText,
    Facts,
    Listed,
    Moment,
    Quote,
    Screen,
    Select,
    useFocusWhen,
    useNote,
    User,
    useSanctionText,
} from "./parts";

const STATES = ["open", "accepted", "refused", ""] as const;

export function Appeals(): ReactNode {
    const at = useAdminText();
    const { appeals } = useAdmin();
    const [state, setState] = useState<(typeof STATES)[number]>("open");
    useEffect(() => void appeals.open({ state }), [appeals, state]);
    return (
        <Screen title={at("screen.appeals")}>
            <div className="row">
                <Select
                    label={at("show")}
                    value={state}
                    options={STATES.map((name) => [name, at(`appeal.${name === "" ? "all" : name}`)] as const)}
                    onChange={setState}
                />
                <button type="button" onClick={() => void appeals.open()}>
                    {at("readAgain")}
                </button>
            </div>
            <Listed list={appeals} empty={at("noAppeals")}>
                {(appeal) => (
                    <li key={appeal.id}>
                        <AppealItem appeal={appeal} />
                    </li>
                )}
            </Listed>
        </Screen>
    );
}

function AppealItem({ appeal }: { appeal: moderation.Appeal }): ReactNode {
    const at = useAdminText();
    const { user, text, state, created_at_ms, decision } = appeal;
    const card = useFocusWhen<HTMLElement>(decision != null);
    return (
        <article ref={card} tabIndex={-1} className="admin-card" data-state={state}>
            <header>
                <User id={user} />
                <span className="role">{at(`appeal.${state}`)}</span>
            </header>
            <Quote text={text} />
            <Facts facts={[[at("appealedAt"), <Moment key="" at={created_at_ms} />]]} />
            <Against appeal={appeal} />
            {decision ? <DecisionText decision={decision} /> : <AppealDecision appeal={appeal} />}
        </article>
    );
}

/** What the appeal is against. */
function Against({ appeal: { user, sanction: id } }: { appeal: moderation.Appeal }): ReactNode {
    const at = useAdminText();
    const admin = useAdmin();
    const textOf = useSanctionText();
    // `null` when the messenger has none.
    const [sanction, setSanction] = useState<moderation.Sanction | null>();
    const { error, run } = useCall();
    useEffect(() => run(async () => setSanction((await admin.sanction(user, id)) ?? null)), [admin, user, id]);
    if (error !== undefined) return <AdminError error={error} />;
    if (sanction === undefined) return null;
    if (sanction === null) return <p className="hint">{at("sanctionUnknown")}</p>;
    return (
        <Facts
            facts={[
                [at("against"), textOf(sanction)],
                [at("noteOfSanction"), sanction.note && <bdi key="">{sanction.note}</bdi>],
                [at("decidedBy"), sanction.by == null ? at("rules") : <User id={sanction.by} />],
            ]}
        />
    );
}

function AppealDecision({ appeal }: { appeal: moderation.Appeal }): ReactNode {
    const at = useAdminText();
    const admin = useAdmin();
    const { isBusy, error, run } = useCall();
    const [note, noteField] = useNote(at("note"), at("noteHint"));
    const decide = (accepted: boolean) => run(() => admin.decideAppeal(appeal.id, { accepted, note }));
    return (
        <form
            onSubmit={(event) => {
                event.preventDefault();
                decide(true);
            }}
        >
            {noteField}
            <AdminError error={error} />
            <div className="row">
                <button type="submit" className="primary" disabled={isBusy}>
                    {at("accept")}
                </button>
                <button type="button" disabled={isBusy} onClick={() => decide(false)}>
                    {at("refuse")}
                </button>
            </div>
        </form>
    );
}

// Users who say that a sanction is wrong.
import type { moderation } from "@posthouse/client";
import { useEffect, useState, type ReactNode } from "react";
import { useCall } from "../parts";
import { useAdmin, useAdminText } from "./context";
import {
    AdminError,
    DecisionCard,
    DecisionForm,
    DecisionScreen,
    Facts,
    Moment,
    Quote,
    User,
    useSanctionText,
} from "./parts";

const STATES = ["open", "accepted", "refused", ""] as const;

export function Appeals(): ReactNode {
    const at = useAdminText();
    const { appeals } = useAdmin();
    return (
        <DecisionScreen
            title={at("screen.appeals")}
            list={appeals}
            states={STATES}
            textOf={(state) => at(`appeal.${state === "" ? "all" : state}`)}
            empty={at("noAppeals")}
        >
            {(appeal) => <AppealItem appeal={appeal} />}
        </DecisionScreen>
    );
}

function AppealItem({ appeal }: { appeal: moderation.Appeal }): ReactNode {
    const at = useAdminText();
    const { user, text, state, created_at_ms, decision } = appeal;
    return (
        <DecisionCard
            user={user}
            state={state}
            stateText={at(`appeal.${state}`)}
            decision={decision}
            form={<AppealDecision appeal={appeal} />}
        >
            <Quote text={text} />
            <Facts facts={[[at("appealedAt"), <Moment key="" at={created_at_ms} />]]} />
            <Against appeal={appeal} />
        </DecisionCard>
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
    return (
        <DecisionForm
            yes={at("accept")}
            no={at("refuse")}
            yesClass="primary"
            onDecided={(accepted, note) => admin.decideAppeal(appeal.id, { accepted, note })}
        />
    );
}

// One rule set: what it says, what it would have done, and what it does.
import type { moderation } from "@posthouse/client";
import { useEffect, useState, type ReactNode } from "react";
import { go, href } from "../../place";
import { draftOf } from "../../state/admin/rule-draft";
import { useSource } from "../../shared/source";
import { usePage, useText, useWorkspace } from "../context";
import { Field, useCall } from "../parts";
import { useAdmin, useAdminText } from "./context";
import { AdminError, ChatName, Confirm, Facts, Moment, Quote, Screen, User } from "./parts";
import { DraftForm } from "./rule-draft";

const DAY_MS = 86_400_000;
/** A retired set judges what was sent before for so long. */
const REMOVED_AFTER_MS = DAY_MS;

export function RuleSet({ id }: { id: string }): ReactNode {
    const t = useText();
    const at = useAdminText();
    const { rules } = useAdmin();
    const set = useSource(rules).get(id);
    const { isBusy, error, run } = useCall();
    useEffect(
        () =>
            run(async () => {
                if (!rules.get(id)) await rules.load();
                if (rules.get(id)) await rules.look(id);
            }),
        [rules, id],
    );
    const back = { href: href({ admin: "rules" }), label: at("toRules") };
    if (!set) {
        return (
            <Screen title={at("screen.rules")} back={back}>
                <AdminError error={error} />
                {error === undefined && <p>{isBusy || !rules.sets ? t("loading") : t("error.not_found")}</p>}
            </Screen>
        );
    }
    return (
        <Screen title={set.name} back={back}>
            <Facts
                facts={[
                    [at("state"), at(`ruleSet.${set.state}`)],
                    [at("madeBy"), <User key="" id={set.created_by} />],
                    [at("begun"), <Moment key="" at={set.created_at_ms} />],
                    [
                        at("enforcedFrom"),
                        set.enforced_from_ms != null && <Moment key="" at={set.enforced_from_ms} />,
                    ],
                    [
                        at("retiredFrom"),
                        set.retired_from_ms != null && <Moment key="" at={set.retired_from_ms} />,
                    ],
                ]}
            />
            <AdminError error={error} />
            <RuleTable rules={set.rules} />
            <Shadow set={set} />
            {set.state !== "draft" && <Done set={set} />}
            <Steps set={set} />
        </Screen>
    );
}

function RuleTable({ rules }: { rules: readonly moderation.Rule[] }): ReactNode {
    const at = useAdminText();
    const { texts } = usePage();
    const doneBy = ({ action }: moderation.Rule) =>
        texts.list([
            ...(action.report ? [at("doReport")] : []),
            ...(action.delete ? [at("deleteMessage")] : []),
            ...(action.sanction
                ? [
                      at(`sanction.${action.sanction.kind}`) +
                          (action.sanction.kind === "warning"
                              ? ""
                              : ` (${action.sanction.seconds == null ? at("forGood") : texts.span(action.sanction.seconds)}, ${at(action.sanction.everywhere ? "everywhereShort" : "inOneChat")})`),
                  ]
                : []),
        ]);
    return (
        <div className="admin-scroll" tabIndex={0} role="region" aria-label={at("rules")}>
            <table>
                <thead>
                    <tr>
                        <th scope="col">{at("ruleName")}</th>
                        <th scope="col">{at("test")}</th>
                        <th scope="col">{at("whatIsDone")}</th>
                    </tr>
                </thead>
                <tbody>
                    {rules.map((rule) => (
                        <tr key={rule.name}>
                            <th scope="row">
                                <bdi>{rule.name}</bdi>
                            </th>
                            <td>
                                <TestText test={rule.test} />
                            </td>
                            <td>{doneBy(rule)}</td>
                        </tr>
                    ))}
                </tbody>
            </table>
        </div>
    );
}

/** Of thousands of words the first say what they are about. */
const SHOWN_LINES = 20;

function TestText({ test }: { test: moderation.RuleTest }): ReactNode {
    const at = useAdminText();
    const lines = (items: readonly string[]) => (
        <bdi>
            {items.slice(0, SHOWN_LINES).join(", ")}
            {items.length > SHOWN_LINES && ` ${at("andMore", { count: items.length - SHOWN_LINES })}`}
        </bdi>
    );
    if ("words" in test)
        return (
            <>
                {at(test.words.exact ? "says.wordsExact" : "test.words")}: {lines(test.words.words)}
            </>
        );
    if ("pattern" in test)
        return (
            <>
                {at("test.pattern")}: <code dir="ltr">{test.pattern.pattern}</code>
            </>
        );
    if ("links" in test)
        return (
            <>
                {at(test.links.allow_only ? "says.linksOther" : "test.links")}: {lines(test.links.domains)}
            </>
        );
    if ("rate" in test) return at("says.rate", { count: test.rate.messages, seconds: test.rate.seconds });
    if ("attachments" in test)
        return (
            <>
                {at(test.attachments.allow_only ? "says.attachmentsOther" : "test.attachments")}:{" "}
                {lines(test.attachments.types)}
            </>
        );
    return at("says.classifier", { label: test.classifier.label, percent: test.classifier.percent });
}

/** What the set would have done with what was sent. It does nothing. */
function Shadow({ set }: { set: moderation.RuleSet }): ReactNode {
    const at = useAdminText();
    const { rules } = useAdmin();
    const { say } = usePage();
    const run = useSource(rules).run(set.id);
    const [days, setDays] = useState("7");
    const call = useCall();
    const isRunning = run?.state === "running";
    useEffect(() => (isRunning ? rules.follow(set.id) : undefined), [rules, set.id, isRunning]);
    const state = run?.state;
    const caught = run?.figures.caught ?? 0;
    useEffect(() => {
        if (state === "done") say(at("shadow.done", { count: caught }));
        // It is said when it ends, and not when something else changes.
    }, [state]);
    return (
        <section>
            <h3>{at("shadow")}</h3>
            <p className="hint">{at("shadowHint")}</p>
            <form
                className="row"
                onSubmit={(event) => {
                    event.preventDefault();
                    call.run(() => rules.beginRun(set.id, Number(days)));
                }}
            >
                <Field
                    label={at("days")}
                    type="number"
                    min={1}
                    max={90}
                    required
                    value={days}
                    onChange={(event) => setDays(event.target.value)}
                />
                <button type="submit" disabled={call.isBusy || isRunning}>
                    {at("beginRun")}
                </button>
            </form>
            <AdminError error={call.error} />
            {run && <Run run={run} />}
        </section>
    );
}

function Run({ run }: { run: moderation.ShadowRun }): ReactNode {
    const at = useAdminText();
    const { texts } = usePage();
    const { state, days, judged, unjudged, from_ms, started_at_ms, samples, figures } = run;
    // The log reaches back to where it is kept.
    const isShort = from_ms != null && from_ms > started_at_ms - (days - 1) * DAY_MS;
    return (
        <div className="admin-card">
            <p role="status">
                {state === "done" ? at("shadow.done", { count: figures.caught }) : at(`shadow.${state}`)}
            </p>
            <Facts
                facts={[
                    [at("judged"), texts.number(judged)],
                    [at("judgedFrom"), from_ms == null ? at("nothingSent") : texts.moment(from_ms)],
                    [at("begun"), <Moment key="" at={started_at_ms} />],
                ]}
            />
            {isShort && state !== "running" && <p className="hint">{at("logIsShort", { count: days })}</p>}
            {unjudged !== undefined && unjudged > 0 && (
                <p className="hint">{at("unjudged", { count: unjudged })}</p>
            )}
            <FiguresTable figures={figures} of={judged} />
            {samples.length > 0 && (
                <>
                    <h4>{at("samples")}</h4>
                    <ul className="admin-list">
                        {samples.map((sample) => (
                            <li key={`${sample.rule} ${sample.chat} ${sample.seq}`}>
                                <Sample sample={sample} />
                            </li>
                        ))}
                    </ul>
                </>
            )}
        </div>
    );
}

function Sample({
    sample: { rule, sender, chat, seq, text, sent_at_ms },
}: {
    sample: moderation.Sample;
}): ReactNode {
    const at = useAdminText();
    const canRead = useSource(useWorkspace().chats).get(chat) !== undefined;
    return (
        <>
            <div className="row">
                <bdi className="role">{rule}</bdi> <User id={sender} /> <ChatName id={chat} />{" "}
                <Moment at={sent_at_ms} />
                {canRead && <a href={href({ chat, at: seq })}>{at("seeInChat")}</a>}
            </div>
            <Quote text={text} />
        </>
    );
}

/** Figures of enforcement and of a run, side by side with how many messages there were. */
function FiguresTable({ figures, of }: { figures: moderation.Figures; of?: number }): ReactNode {
    const at = useAdminText();
    const { texts } = usePage();
    const share = (count: number) =>
        of === undefined || of === 0
            ? texts.number(count)
            : `${texts.number(count)} (${new Intl.NumberFormat(texts.language, { style: "percent", maximumFractionDigits: 2 }).format(count / of)})`;
    return (
        <>
            <Facts
                facts={[
                    [at("caught"), share(figures.caught)],
                    [at("deletions"), texts.number(figures.deletions)],
                    [at("figureReports"), texts.number(figures.reports)],
                    [at("sanctions"), texts.number(figures.sanctions)],
                ]}
            />
            {figures.rules.length > 0 && (
                <table>
                    <thead>
                        <tr>
                            <th scope="col">{at("ruleName")}</th>
                            <th scope="col">{at("caught")}</th>
                        </tr>
                    </thead>
                    <tbody>
                        {figures.rules.map(({ rule, caught }) => (
                            <tr key={rule}>
                                <th scope="row">
                                    <bdi>{rule}</bdi>
                                </th>
                                <td>{texts.number(caught)}</td>
                            </tr>
                        ))}
                    </tbody>
                </table>
            )}
        </>
    );
}

function Done({ set }: { set: moderation.RuleSet }): ReactNode {
    const at = useAdminText();
    const figures = useSource(useAdmin().rules).figures(set.id);
    if (!figures) return null;
    return (
        <section>
            <h3>{at("done")}</h3>
            <FiguresTable figures={figures} />
        </section>
    );
}

type Step = "enforce" | "retire" | "remove";

/** What becomes of the set, asked before it is done. */
function Steps({ set }: { set: moderation.RuleSet }): ReactNode {
    const at = useAdminText();
    const { rules } = useAdmin();
    const run = useSource(rules).run(set.id);
    const { isBusy, error, run: call } = useCall();
    const [step, setStep] = useState<Step>();
    const [isCopying, setIsCopying] = useState(false);
    const isRemovable =
        set.state === "draft" ||
        (set.retired_from_ms != null && set.retired_from_ms < Date.now() - REMOVED_AFTER_MS);
    const act = (step: Step) =>
        call(async () => {
            await rules[step](set.id);
            setStep(undefined);
            if (step === "remove") go({ admin: "rules" }, true);
        });
    const what =
        run?.state === "done"
            ? at("wouldHave", { count: run.figures.caught, judged: run.judged })
            : at("noRun");
    return (
        <section>
            <h3>{at("steps")}</h3>
            <div className="row">
                {set.state === "draft" && (
                    <button type="button" className="primary" onClick={() => setStep("enforce")}>
                        {at("enforce")}
                    </button>
                )}
                {set.state === "enforced" && (
                    <button type="button" className="danger" onClick={() => setStep("retire")}>
                        {at("retire")}
                    </button>
                )}
                <button type="button" onClick={() => setIsCopying(true)}>
                    {at("copy")}
                </button>
                {isRemovable && (
                    <button type="button" className="danger" onClick={() => setStep("remove")}>
                        {at("removeSet")}
                    </button>
                )}
            </div>
            {set.state === "retired" && !isRemovable && <p className="hint">{at("removableLater")}</p>}
            {isCopying && (
                <DraftForm
                    first={draftOf(set)}
                    onCreated={({ id }) => go({ admin: "rules", of: id })}
                    onCancel={() => setIsCopying(false)}
                />
            )}
            {step && (
                <Confirm
                    title={at(step === "remove" ? "removeSet" : step)}
                    text={at(`${step}Text`)}
                    action={at(step === "remove" ? "removeSet" : step)}
                    isBusy={isBusy}
                    error={error}
                    onConfirm={() => act(step)}
                    onClose={() => setStep(undefined)}
                >
                    {step === "enforce" && <p>{what}</p>}
                </Confirm>
            )}
        </section>
    );
}

// What the console makes of what Kubernetes says, without a browser.
import { expect, test } from "vitest";
import { diff, hunks } from "../src/diff";
import { isOlder, KeptList } from "../src/kept";
import { href, placeOf, type Place } from "../src/place";
import {
    amount,
    byUrgency,
    manifestOf,
    measured,
    phaseOf,
    requested,
    seenAtMs,
    stateOf,
    stepOf,
    sumOf,
    type Condition,
    type KubernetesEvent,
    type Tenant,
} from "../src/resources";
import { namespacesOf, tokenOf } from "../src/state/session";
import { toYaml } from "../src/yaml";
import { condition, deployment, tenant } from "./kubernetes";

test("an object is written as kubectl writes it", () => {
    const object = {
        apiVersion: "v1",
        metadata: { name: "acme", labels: {}, annotations: { "a.b/c": "x" } },
        spec: {
            hosts: ["acme.example", "*.example"],
            empty: [],
            absent: undefined,
            nothing: null,
            identity: { providers: [{ alias: "corp", scopes: ["openid"] }, { alias: "other" }] },
        },
    };
    expect(toYaml(object)).toBe(
        [
            "apiVersion: v1",
            "metadata:",
            "  name: acme",
            "  labels: {}",
            "  annotations:",
            "    a.b/c: x",
            "spec:",
            "  hosts:",
            "  - acme.example",
            '  - "*.example"',
            "  empty: []",
            "  nothing: null",
            "  identity:",
            "    providers:",
            "    - alias: corp",
            "      scopes:",
            "      - openid",
            "    - alias: other",
            "",
        ].join("\n"),
    );
});

test.each([
    ["168h", '"168h"'],
    ["true", '"true"'],
    ["No", '"No"'],
    ["", '""'],
    ["1.5", '"1.5"'],
    ["0x10", '"0x10"'],
    ["~", '"~"'],
    ["a: b", '"a: b"'],
    ["a #b", '"a #b"'],
    ["end:", '"end:"'],
    ["two\nlines", '"two\\nlines"'],
    ["- a", '"- a"'],
    ["a\u2028b\u0085", '"a\\u2028b\\u0085"'],
    ["{a}", '"{a}"'],
    ["Имя", '"Имя"'],
    ["acme.example", "acme.example"],
    ["http://registry:8081", "http://registry:8081"],
    [7, "7"],
    [true, "true"],
] as const)("a value %j is read as what it is", (value, expected) => {
    expect(toYaml({ key: value })).toBe(`key: ${expected}\n`);
});

test("what is in a list is written whatever it is", () => {
    expect(toYaml({ list: [null, [1, [2]], {}, { a: [] }, "x"] })).toBe(
        "list:\n- null\n- - 1\n  - - 2\n- {}\n- a: []\n- x\n",
    );
});

test("a difference has both texts in it", () => {
    const [before, after] = ["a\nb\nc\nd\n", "a\nx\nc\nd\ny\n"];
    const lines = diff(before, after);
    const of = (is: string) => lines.filter((line) => line.is !== is).map(({ text }) => text);
    expect(of("added").join("\n")).toBe(before);
    expect(of("removed").join("\n")).toBe(after);
    expect(lines.filter(({ is }) => is !== "same").map(({ is, text }) => `${is} ${text}`)).toEqual([
        "removed b",
        "added x",
        "added y",
    ]);
    expect(diff("same\n", "same\n").every(({ is }) => is === "same")).toBe(true);
    expect(diff("a\na\n", "a\n").filter(({ is }) => is === "removed")).toHaveLength(1);
});

test("what did not change is left out, but for what is around a change", () => {
    const before = Array.from({ length: 20 }, (_, at) => String(at)).join("\n");
    const parts = hunks(diff(before, before.replace("\n10\n", "\nten\n")));
    expect(parts[0]).toEqual({ is: "skipped", count: 7 });
    expect(parts.at(-1)).toEqual({ is: "skipped", count: 6 });
    expect(parts).toHaveLength(10);
});

test("a tenant is at one phase", () => {
    const not = (reason: string) => tenant("a", { conditions: [condition("Ready", "False", reason)] });
    expect(phaseOf(tenant("a"))).toBe("ready");
    expect(phaseOf(not("RolloutInProgress"))).toBe("waiting");
    expect(phaseOf(not("DataLoss"))).toBe("attention");
    expect(phaseOf(not("Suspended"))).toBe("suspended");
    expect(phaseOf(tenant("a", { conditions: [] }))).toBe("new");
    expect(phaseOf(tenant("a", { paused: true }))).toBe("paused");
    // The edit is not looked at yet: what is said of the former manifest is no word about this one.
    expect(phaseOf(tenant("a", { generation: 9 }))).toBe("waiting");
    const deleted = tenant("a", { paused: true });
    deleted.metadata.deletionTimestamp = "2026-11-30T00:00:00Z";
    expect(phaseOf(deleted)).toBe("deleting");
});

test("an objective is missed when nothing of its budget is left, whether or not it burns", () => {
    const at = (budgetRemainingPercent: number, burning: boolean) =>
        stateOf({ name: "delivery", target: 0.999, budgetRemainingPercent, burning });
    expect([at(100, false), at(0, false), at(80, true), at(-5, false), at(-5, true)]).toEqual([
        "met",
        "met",
        "burning",
        "missed",
        "missed",
    ]);
});

test("what is not known adds nothing, and is not taken for nothing", () => {
    expect([sumOf([1, undefined, 2]), sumOf([0]), sumOf([undefined]), sumOf([])]).toEqual([
        3,
        0,
        undefined,
        undefined,
    ]);
});

test("the next step of a condition stands by itself", () => {
    const of = (message: string, reason = "SecretInvalid", status = "False") =>
        stepOf({ ...condition("Ready", status, reason), message });
    expect(of("KafkaReady: Secret a/b has no key c; add it (also not ready: RoutesReady)")).toEqual({
        matter: "KafkaReady: Secret a/b has no key c (also not ready: RoutesReady)",
        step: "add it",
    });
    expect(of("no step is named")).toEqual({ matter: "no step is named" });
    expect(of("2 of 3 ready; started", "RolloutInProgress")).toEqual({ matter: "2 of 3 ready; started" });
    expect(of("one; two; three")).toEqual({ matter: "one; two", step: "three" });
    expect(
        of("it is away, and what was said before is shown; it is asked again", "BackendUnavailable"),
    ).toEqual({
        matter: "it is away, and what was said before is shown",
        step: "it is asked again",
    });
});

test("what needs someone comes first", () => {
    const conditions: Condition[] = [
        condition("Placed", "True", "Assigned"),
        condition("WorkloadsReady", "False", "DependencyNotReady"),
        condition("KafkaReady", "False", "CredentialsRejected"),
    ];
    expect(byUrgency(conditions).map(({ type }) => type)).toEqual(["KafkaReady", "WorkloadsReady", "Placed"]);
});

test("a manifest has what users write", () => {
    const one = tenant("acme");
    one.metadata.managedFields = [{}];
    one.metadata.annotations = { "kubectl.kubernetes.io/last-applied-configuration": "{}", own: "x" };
    expect(manifestOf(one)).toEqual({
        apiVersion: "messenger.posthouse.dev/v1alpha1",
        kind: "MessengerTenant",
        metadata: { name: "acme", namespace: "acme", annotations: { own: "x" } },
        spec: one.spec,
    });
});

test("amounts are numbers, whatever their unit", () => {
    const amounts = [
        ["100m", 0.1],
        ["2", 2],
        ["1500000n", 0.0015],
        ["64Mi", 67_108_864],
        ["1e3", 1000],
        ["5G", 5e9],
        ["many", 0],
        [undefined, 0],
    ] as const;
    for (const [text, expected] of amounts) expect(amount(text), text).toBeCloseTo(expected);
    const two = deployment("acme-chat", 2);
    expect(requested([two, deployment("acme-auth", 2)])).toEqual({ cpu: 0.4, memoryBytes: 4 * 2 ** 25 });
    const usage = { cpu: "250m", memory: "1Mi" };
    const pods = [
        {
            metadata: { name: "a" },
            containers: [
                { name: "c", usage },
                { name: "d", usage },
            ],
        },
    ];
    expect(measured(pods)).toEqual({ cpu: 0.5, memoryBytes: 2 ** 21 });
});

test("an Event of either API is seen at its last time", () => {
    const metadata = { ...tenant("a").metadata, creationTimestamp: "2026-11-30T00:00:00Z" };
    const at = (event: Partial<KubernetesEvent>) => new Date(seenAtMs({ metadata, ...event })).getUTCHours();
    expect(at({})).toBe(0);
    expect(at({ eventTime: "2026-11-30T01:00:00.000000Z", lastTimestamp: null })).toBe(1);
    expect(at({ lastTimestamp: "2026-11-30T02:00:00Z", eventTime: null })).toBe(2);
    expect(
        at({ eventTime: "2026-11-30T01:00:00Z", series: { lastObservedTime: "2026-11-30T03:00:00Z" } }),
    ).toBe(3);
});

test("versions are numbers of any length", () => {
    for (const [one, other] of [
        ["9", "10"],
        ["99999999999999999999", "100000000000000000000"],
        ["", "1"],
    ] as const)
        expect([isOlder(one, other), isOlder(other, one)], one).toEqual([true, false]);
    expect(isOlder("7", "7")).toBe(false);
});

test("a list that is kept takes each change once, in whatever order lists and events come", () => {
    const at = (name: string, version: number) => {
        const one = tenant(name);
        return { ...one, metadata: { ...one.metadata, resourceVersion: String(version) } };
    };
    const list = new KeptList<Tenant>({ resource: "messengertenants" });
    const shown = () => list.items.map(({ metadata }) => `${metadata.name} ${metadata.resourceVersion}`);
    list.see({ type: "ADDED", object: at("early", 1) });
    expect([shown(), list.version]).toEqual([[], undefined]);
    list.take({ items: [at("acme", 3), at("globex", 4)], version: "5" });
    list.see({ type: "MODIFIED", object: at("acme", 5) });
    expect(shown()).toEqual(["acme 3", "globex 4"]);
    list.see({ type: "MODIFIED", object: at("acme", 10) });
    list.see({ type: "DELETED", object: at("globex", 11) });
    list.see({ type: "ADDED", object: at("hooli", 12) });
    expect([shown(), list.version]).toEqual([["acme 10", "hooli 12"], "12"]);
    // A list that was asked for before, and comes late.
    list.take({ items: [at("acme", 9), at("globex", 4)], version: "9" });
    expect(shown()).toEqual(["acme 10", "hooli 12"]);
    list.see({ type: "BOOKMARK", object: { metadata: { resourceVersion: "20" } } });
    expect([shown(), list.version]).toEqual([["acme 10", "hooli 12"], "20"]);
    // One that begins again at another version, as a restored cluster does.
    list.forget();
    list.take({ items: [at("acme", 2)], version: "2" });
    expect(shown()).toEqual(["acme 2"]);
    list.clear();
    expect([shown(), list.version]).toEqual([[], undefined]);
});

test("a place is an address, and back", () => {
    const places: Place[] = [
        { at: "tenants" },
        { at: "cells" },
        { at: "tenant", namespace: "team-a", name: "acme" },
    ];
    for (const place of places) expect(placeOf(href(place))).toEqual(place);
    for (const fragment of [
        "",
        "#/tenant/a",
        "#/tenant/../x",
        "#/tenant/a/b/c",
        "#/tenant/A/b",
        "#/tenant/a%2fb/c",
    ])
        expect(placeOf(fragment), fragment).toEqual({ at: "tenants" });
});

test("what is pasted is taken as it was meant", () => {
    expect(tokenOf(" Bearer eyJ.a\n")).toBe("eyJ.a");
    expect(tokenOf("eyJ\n.a")).toBe("eyJ.a");
    expect(namespacesOf(" a, b-1\nc ")).toEqual(["a", "b-1", "c"]);
    expect(namespacesOf("")).toEqual([]);
    for (const text of ["A", "a/b", "-a", "a.b", "../x"]) expect(namespacesOf(text), text).toBeUndefined();
});

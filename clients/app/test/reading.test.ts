// What is taken of reads that overlap.
import { expect, test } from "vitest";
import { Reading } from "../src/shared/reading";

/** A reading whose answers come when a test says so. */
function held() {
    const answers: Array<{ come: (value: string) => void; fail: (error: Error) => void }> = [];
    const taken: string[] = [];
    const reading = new Reading(async (isNewest) => {
        const value = await new Promise<string>((come, fail) => answers.push({ come, fail }));
        if (isNewest()) taken.push(value);
    });
    return { reading, answers, taken };
}

test("who asks while an answer is under way waits for that one, and who asks later for another one", async () => {
    const { reading, answers, taken } = held();
    const both = Promise.all([reading.join(), reading.join()]);
    answers[0]!.come("first");
    await both;
    expect(answers).toHaveLength(1);
    const next = reading.join();
    answers[1]!.come("second");
    await next;
    expect(taken).toEqual(["first", "second"]);
});

test.each([
    [0, 1],
    [1, 0],
])("of two answers the one that was asked for last is taken: %i before %i", async (first, second) => {
    const { reading, answers, taken } = held();
    const both = Promise.all([reading.join(), reading.again()]);
    for (const at of [first, second]) answers[at]!.come(at === 0 ? "before" : "after");
    await both;
    expect(taken).toEqual(["after"]);
});

test("what a change outdates is asked for once more, where there is an answer to come", async () => {
    const { reading, answers, taken } = held();
    reading.outdate();
    expect(answers).toHaveLength(0);
    const waiting = reading.join();
    reading.outdate();
    answers[0]!.come("before");
    answers[1]!.come("after");
    await waiting;
    expect(taken).toEqual(["after"]);
});

test("a fault of the newest read is told to all who wait, and that of an older one to nobody", async () => {
    const { reading, answers, taken } = held();
    const waiting = reading.join();
    reading.outdate();
    answers[0]!.come("before");
    answers[1]!.fail(new Error("away"));
    await expect(waiting).rejects.toThrow("away");
    const both = Promise.all([reading.join(), reading.again()]);
    answers[2]!.fail(new Error("away"));
    answers[3]!.come("after");
    await both;
    expect(taken).toEqual(["after"]);
});

test("a fault of the newest read is told to who waits for an older answer, which comes behind it", async () => {
    const { reading, answers, taken } = held();
    const older = reading.join();
    const newest = reading.again();
    answers[1]!.fail(new Error("away"));
    await expect(newest).rejects.toThrow("away");
    answers[0]!.come("before");
    await expect(older).rejects.toThrow("away");
    expect(taken).toEqual([]);
});

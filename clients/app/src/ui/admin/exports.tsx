// Lists to take along, for who asks what was decided and by whom.
import { useState, type ReactNode } from "react";
import { EXPORTS, type ExportKind } from "../../state/admin/exports";
import { useSource } from "../../shared/source";
import { useText } from "../context";
import { useAdmin, useAdminText } from "./context";
import { AdminError, Screen, Select } from "./parts";

const KINDS = Object.keys(EXPORTS) as ExportKind[];

export function ExportsScreen(): ReactNode {
    const t = useText();
    const at = useAdminText();
    const { exports } = useAdmin();
    const { current } = useSource(exports);
    const [kind, setKind] = useState<ExportKind>("audit");
    const isRunning = current?.state === "running";
    const make = async () => {
        const file = await exports.make(kind);
        if (file) download(file, `${kind}-${new Date().toISOString().slice(0, 10)}.jsonl`);
    };
    return (
        <Screen title={at("screen.exports")}>
            <p className="hint">{at("exportsHint")}</p>
            <form
                onSubmit={(event) => {
                    event.preventDefault();
                    if (!isRunning) void make();
                }}
            >
                <Select
                    label={at("what")}
                    value={kind}
                    options={KINDS.map((name) => [name, at(`export.${name}`)] as const)}
                    onChange={setKind}
                />
                <div className="row">
                    <button type="submit" className="primary" disabled={isRunning}>
                        {at("makeExport")}
                    </button>
                    {isRunning && (
                        <button type="button" onClick={() => exports.stop()}>
                            {t("cancel")}
                        </button>
                    )}
                </div>
            </form>
            {current && (
                <p role="status">
                    {at(`export.${current.state}`, {
                        count: current.count,
                        what: at(`export.${current.kind}`),
                    })}
                </p>
            )}
            <AdminError error={current?.error} />
        </Screen>
    );
}

/** Hands a file to the browser, as a link to it would. */
function download(file: Blob, name: string): void {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(file);
    link.download = name;
    link.click();
    // Some browsers read it a moment later.
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

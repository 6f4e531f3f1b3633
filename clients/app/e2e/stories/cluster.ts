// The cluster of the stack, by kubectl. Stories without one are skipped.
import { execFile } from "node:child_process";

const KUBECTL = process.env["KUBECTL"] ?? "kubectl";
const MAX_BYTES = 64 * 1024 * 1024;
/** The operator sets a tenant up, or removes it, within this time. */
const CONVERGENCE = "240s";

/** Whether this runs on a stack, and not on `posthouse dev`. */
export const hasCluster = process.env["KUBECONFIG"] !== undefined;

/** Where a tenant of the local cell is: beside the one of the stories. */
export function addressOf(tenantId: string): string {
    const url = new URL(process.env["POSTHOUSE_URL"] ?? "http://acme.localhost:8000");
    return `${url.protocol}//${tenantId}.localhost:${url.port}`;
}

type Pod = {
    metadata: { name: string; creationTimestamp: string; deletionTimestamp?: string };
    status: { conditions?: Array<{ type: string; status: string }> };
};

/** Runs kubectl and returns what it prints. Rejects with what it complains of. */
export function kubectl(args: readonly string[], input?: string): Promise<string> {
    return new Promise((resolve, reject) => {
        const child = execFile(KUBECTL, args, { maxBuffer: MAX_BYTES }, (error, stdout, stderr) => {
            if (error) reject(new Error(`kubectl ${args.join(" ")}: ${stderr || error.message}`));
            else resolve(stdout);
        });
        // One that has ended reads no more. Why, it has said.
        child.stdin?.on("error", () => undefined);
        child.stdin?.end(input ?? "");
    });
}

/** Applies manifests as the field manager `stories`. */
export async function apply(...manifests: readonly object[]): Promise<void> {
    const list = JSON.stringify({ apiVersion: "v1", kind: "List", items: manifests });
    await kubectl(["apply", "--server-side", "--field-manager=stories", "-f", "-"], list);
}

export function namespace(name: string): object {
    const labels = { "pod-security.kubernetes.io/enforce": "restricted" };
    return { apiVersion: "v1", kind: "Namespace", metadata: { name, labels } };
}

export function tenant(inNamespace: string, name: string, spec: object): object {
    const metadata = { namespace: inNamespace, name };
    return { apiVersion: "messenger.posthouse.dev/v1alpha1", kind: "MessengerTenant", metadata, spec };
}

/** Sets up a tenant of the local cell whose id, name and namespace are one. What was there under this name is removed first. */
export async function setUp(name: string, spec: object): Promise<void> {
    await remove(name);
    const whole = { tenantId: name, cellRef: { name: "local" }, deletionPolicy: "Delete", ...spec };
    await apply(namespace(name), tenant(name, name, whole));
    const ready = ["wait", "--for=condition=Ready", "messengertenant", name, `--timeout=${CONVERGENCE}`];
    await kubectl(["-n", name, ...ready]);
}

/** Removes a namespace with the tenants in it. */
export async function remove(name: string): Promise<void> {
    const limit = `--timeout=${CONVERGENCE}`;
    await kubectl(["-n", name, "delete", "messengertenant", "--all", "--ignore-not-found", limit]);
    await kubectl(["delete", "namespace", name, "--ignore-not-found", limit]);
}

/** Returns the names of the ready pods of a tenant with gateways in them, the oldest first. */
export async function gateways(ofTenant: string): Promise<string[]> {
    const selector = "app.kubernetes.io/name in (gateway,compact)";
    const listed = await kubectl(["-n", ofTenant, "get", "pods", "-l", selector, "-o", "json"]);
    const isReady = ({ metadata, status }: Pod) =>
        metadata.deletionTimestamp === undefined &&
        status.conditions?.some(({ type, status }) => type === "Ready" && status === "True") === true;
    const { items } = JSON.parse(listed) as { items: Pod[] };
    const began = ({ metadata }: Pod) => Date.parse(metadata.creationTimestamp);
    return items
        .filter(isReady)
        .sort((one, other) => began(one) - began(other))
        .map(({ metadata }) => metadata.name);
}

/** Kills a pod without a grace period, as a lost node would. */
export async function kill(inNamespace: string, pod: string): Promise<void> {
    const now = ["--grace-period=0", "--force", "--wait=false", "--ignore-not-found"];
    await kubectl(["-n", inNamespace, "delete", "pod", pod, ...now]);
}

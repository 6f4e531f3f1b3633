// What Kubernetes and the operator take as names. A form refuses by it at once what the API server would refuse with the plan.

/** Whatever Kubernetes takes as the name of an object, as a part of a regular expression. */
export const OBJECT_NAME = "[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?";

export const NAMESPACE_NAME = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/;
/** Services and Deployments are named after a tenant. */
export const TENANT_NAME = /^[a-z](?:[a-z0-9-]{0,38}[a-z0-9])?$/;
/** As `spec.cellRef.name` of a tenant takes it. */
export const CELL_NAME = new RegExp(`^${OBJECT_NAME}$`);

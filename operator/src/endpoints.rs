//! Pure: where the systems are that a cell may have.

use crds::MessengerCellSpec;

/// Returns the addresses of the systems that a cell has beside those that every cell has, each with the field that has it.
pub(crate) fn optional(spec: &MessengerCellSpec) -> impl Iterator<Item = (&'static str, &str)> {
    let s3 = spec.s3.iter().flat_map(|s3| {
        [
            ("spec.s3.endpoint", s3.endpoint.as_str()),
            ("spec.s3.publicEndpoint", s3.public_endpoint()),
            ("spec.s3.accountsEndpoint", s3.accounts_endpoint()),
        ]
    });
    let registry = spec.schema_registry.iter();
    let registry = registry.map(|registry| ("spec.schemaRegistry.url", registry.url.as_str()));
    let rabbitmq = spec.rabbitmq.iter().flat_map(|rabbitmq| {
        [
            ("spec.rabbitmq.amqpUrl", rabbitmq.amqp_url.as_str()),
            ("spec.rabbitmq.managementUrl", rabbitmq.management_url.as_str()),
        ]
    });
    let search = spec.opensearch.iter().map(|search| ("spec.opensearch.url", search.url.as_str()));
    let traces = spec.observability.iter().flat_map(|of| &of.traces);
    let traces = traces.map(|traces| ("spec.observability.traces.endpoint", traces.endpoint.as_str()));
    let prometheus =
        spec.prometheus().map(|prometheus| ("spec.monitoring.prometheus.url", prometheus.url.as_str()));
    s3.chain(registry).chain(search).chain(rabbitmq).chain(traces).chain(prometheus)
}

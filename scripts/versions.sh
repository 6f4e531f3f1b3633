# Versions of everything the local stack is made of. Caches are keyed by them.
KUBERNETES=v1.34.4
TRAEFIK=v3.6.12
KAFKA=4.3.1
CASSANDRA=5.0.9
KEYCLOAK=26.7.3
VERSITYGW=v1.8.0
APICURIO=3.0.9
OPENSEARCH=2.19.1.0
SLF4J=1.7.36
# As Go modules: v0.316.0 is Prometheus 3.16.
PROMETHEUS=v0.316.0
ALERTMANAGER=v0.35.0
VICTORIALOGS=v1.52.1
ZIPKIN=3.6.1
# CRDs of the Prometheus Operator, which `make kind-check` checks the chart by.
PROMETHEUS_OPERATOR=v0.85.0
NEXTEST=0.9.151
CARGO_DENY=0.20.2
TYPOS=1.52.0

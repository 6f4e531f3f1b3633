# All backends, side by side; Keycloak waits for its database.
for part in apt downloads owner down bridge postgres redis s3 kafka cassandra keycloak stack-env; do
    # shellcheck source=/dev/null
    source "$ROOT/scripts/local/$part.sh"
done

backends_up() {
    begin kafka kafka_up
    begin cassandra cassandra_up
    begin redis redis_up
    begin s3 s3_up
    step postgres postgres_up
    begin keycloak keycloak_up
    finish redis s3 kafka cassandra keycloak
    stack_env
}

downloads_begin() {
    begin 'download kafka' download_kafka
    begin 'download cassandra' download_cassandra
    begin 'download keycloak' download_keycloak
    begin 'build s3' build_s3
}
downloads_finish() { finish 'download kafka' 'download cassandra' 'download keycloak' 'build s3'; }

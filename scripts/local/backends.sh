# All backends, side by side; Keycloak waits for its database. What WITH names is brought up beside them.
for part in apt tools downloads owner down bridge certs postgres redis s3 kafka cassandra keycloak registry opensearch rabbitmq console observability stack-env; do
    # shellcheck source=/dev/null
    source "$ROOT/scripts/local/$part.sh"
done

# The optional parts that WITH names.
requested() {
    local part
    for part in "${OPTIONAL[@]}"; do
        if with $part; then echo $part; fi
    done
}

backends_up() {
    # What is made at the same time below is of one authority.
    step 'certificates of backends' cell_authority
    begin kafka kafka_up
    begin cassandra cassandra_up
    begin redis redis_up
    begin s3 s3_up
    step postgres postgres_up
    begin keycloak keycloak_up
    if with registry; then begin registry registry_up; fi
    if with opensearch; then begin opensearch opensearch_up; fi
    if with rabbitmq; then begin rabbitmq rabbitmq_up; fi
    finish redis s3 kafka cassandra keycloak
    if with registry; then finish registry; fi
    if with opensearch; then finish opensearch; fi
    if with rabbitmq; then finish rabbitmq; fi
    if with console; then step console console_up; fi
    stack_env
}

downloads_begin() {
    local part
    begin 'download kafka' download_kafka
    begin 'download cassandra' download_cassandra
    begin 'download keycloak' download_keycloak
    begin 'build s3' build_s3
    for part in $(requested); do begin "download $part" "download_$part"; done
}
downloads_finish() {
    local part
    finish 'download kafka' 'download cassandra' 'download keycloak' 'build s3'
    for part in $(requested); do finish "download $part"; done
}

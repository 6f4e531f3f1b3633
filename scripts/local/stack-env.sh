# .local/stack.env: what tests and developers need to reach the backends, as a file to source.
stack_env() {
    (umask 077; cat > "$STATE/stack.env.part" << ENV
export KUBECONFIG='$KUBECONFIG'
export HTTP_ADDR=127.0.0.1:8000
export HTTP_PROBE_ADDR=$HOST_IP:8000
export KAFKA_BOOTSTRAP=$HOST_IP:$KAFKA_PORT KAFKA_TLS_BOOTSTRAP=$HOST_IP:$KAFKA_TLS_PORT KAFKA_CA=$CELL_PKI/ca.crt
export KAFKA_ADMIN_USERNAME=admin KAFKA_ADMIN_PASSWORD=$(secret kafka-admin)
export KAFKA_OPERATOR_USERNAME=posthouse-operator KAFKA_OPERATOR_PASSWORD=$(secret kafka-operator)
export CQL_CONTACT_POINTS=$HOST_IP:$CQL_PORT CQL_FLAVOR=cassandra
export CQL_ADMIN_USERNAME=admin CQL_ADMIN_PASSWORD=$(secret cql-admin)
export CQL_OPERATOR_USERNAME=posthouse_operator CQL_OPERATOR_PASSWORD=$(secret cql-operator)
export KEYCLOAK_URL=$KEYCLOAK_URL
export KEYCLOAK_ADMIN_USERNAME=admin KEYCLOAK_ADMIN_PASSWORD=$(secret keycloak-admin)
export KEYCLOAK_OPERATOR_CLIENT_ID=posthouse-operator KEYCLOAK_OPERATOR_CLIENT_SECRET=$(secret keycloak-operator)
export PG_HOST=$HOST_IP PG_PORT=$PG_PORT PG_CA=$CELL_PKI/ca.crt
export PG_ADMIN_USERNAME=admin PG_ADMIN_PASSWORD=$(secret postgres-admin)
export PG_OPERATOR_USERNAME=posthouse_operator PG_OPERATOR_PASSWORD=$(secret postgres-posthouse_operator)
export REDIS_HOST=$HOST_IP REDIS_PORT=$REDIS_PORT
export REDIS_ADMIN_USERNAME=admin REDIS_ADMIN_PASSWORD=$(secret redis-admin)
export REDIS_OPERATOR_USERNAME=posthouse-operator REDIS_OPERATOR_PASSWORD=$(secret redis-operator)
export S3_ADDRESS=$HOST_IP:$S3_PORT S3_ACCOUNTS_ADDRESS=$HOST_IP:$S3_ACCOUNTS_PORT
export S3_ADMIN_USERNAME=admin S3_ADMIN_PASSWORD=$(secret s3-admin)
export REGISTRY_ADDRESS=$HOST_IP:$REGISTRY_PORT
export OPENSEARCH_ADDRESS=$HOST_IP:$OPENSEARCH_PORT
export RABBITMQ_ADDRESS=$HOST_IP:$RABBITMQ_MANAGEMENT_PORT RABBITMQ_AMQP_ADDRESS=$HOST_IP:$RABBITMQ_PORT RABBITMQ_CA=$CELL_PKI/ca.crt
export RABBITMQ_ADMIN_USERNAME=admin RABBITMQ_ADMIN_PASSWORD=$(secret rabbitmq-admin)
export RABBITMQ_OPERATOR_USERNAME=posthouse-operator RABBITMQ_OPERATOR_PASSWORD=$(secret rabbitmq-operator)
export S3_OPERATOR_USERNAME=posthouse-operator S3_OPERATOR_PASSWORD=$(secret s3-operator)
ENV
    )
    mv "$STATE/stack.env.part" "$STATE/stack.env"
}

# Posthouse itself on the cluster: charts, the cell with its admin Secrets, the example tenants.
NAMESPACE=posthouse-system
# Traefik of the native stack is no pod, and asks no DNS of the cluster.
WAKER_IP=10.96.0.84
PROFILE=${PROFILE:-dev}
TOPOLOGY=${TOPOLOGY:-Distributed}
BIN=$CARGO_TARGET_DIR/${PROFILE/#dev/debug}

kubectl() { "$K8S/kubectl" "$@"; }
helm() { "$K8S/helm" "$@"; }
apply() { kubectl apply --server-side --force-conflicts --field-manager=local-stack "$@"; }

# The whole workspace is selected, as in `make test`, so that features are resolved alike and nothing is compiled twice. Cargo adds the features
# that tests need where an example is among what is built; the images of a real cluster do without.
# The clients first: the service web and the operator embed them. Without Node there are pages that say so, and the rest of the stack misses nothing.
build_binaries() {
    local tests=(--example bot)
    [ "$PROFILE" = dev ] || tests=()
    if node_is_there; then app_build || return; fi
    own_target && cd "$ROOT" && cargo build --locked --workspace --exclude xtask --bins "${tests[@]}" --profile "$PROFILE"
}

# Drift in a backend is looked for more often than the chart's default: nobody should wait a minute to see it repaired.
operator_up() {
    local tag
    tag=$(cat "$STATE/image-tag")
    apply -f "$ROOT/deploy/local/namespace.yaml"
    crds_up
    stored_secret posthouse-operator-metrics token "$(secret operator-metrics)"
    helm upgrade --install posthouse "$ROOT/charts/posthouse" -n $NAMESPACE \
        --set image.repository=posthouse --set image.tag="$tag" --set image.pullPolicy=IfNotPresent \
        --set driftSeconds=15 --set metrics.tokenSecret=posthouse-operator-metrics --set waker.clusterIP=$WAKER_IP
    kubectl -n $NAMESPACE rollout status deployment -l app.kubernetes.io/instance=posthouse --timeout=120s
}

# Tests and developers apply the CRDs by hand as well, hence the ownership.
crds_up() { helm upgrade --install --take-ownership posthouse-crds "$ROOT/charts/posthouse-crds" -n $NAMESPACE; }

# The operator's own accounts in the backends, where the cell refers to them.
admin_secrets() {
    stored_secret cell-local-kafka username posthouse-operator password "$(secret kafka-operator)"
    stored_secret cell-local-cql username posthouse_operator password "$(secret cql-operator)"
    stored_secret cell-local-postgres username posthouse_operator password "$(secret postgres-posthouse_operator)"
    stored_secret cell-local-redis username posthouse-operator password "$(secret redis-operator)"
    stored_secret cell-local-s3 accessKey posthouse-operator secretKey "$(secret s3-operator)"
    if with rabbitmq; then
        stored_secret cell-local-rabbitmq username posthouse-operator password "$(secret rabbitmq-operator)"
    fi
    stored_secret cell-local-keycloak clientId posthouse-operator clientSecret "$(secret keycloak-operator)"
}

# stored_secret NAME [KEY VALUE]...: a Secret in the operator's namespace.
stored_secret() {
    {
        printf '%s\n' 'apiVersion: v1' 'kind: Secret' "metadata: {name: $1, namespace: $NAMESPACE}" 'stringData:'
        printf '  %s: "%s"\n' "${@:2}"
    } | apply -f -
}

cell_up() {
    admin_secrets
    cell_manifest | apply -f -
}

# cell_manifest: prints the example of the cell, with the authority of its backends, and with the registry, OpenSearch, the broker and the collector
# where there are such.
cell_manifest() {
    local registry=null search=null rabbitmq=null traces=null authority
    authority=$(< "$CELL_PKI/ca.crt")
    if with registry; then registry="{\"url\": \"$REGISTRY_URL\"}"; fi
    if with opensearch; then search="{\"url\": \"$OPENSEARCH_URL\", \"security\": \"None\", \"replicas\": 0}"; fi
    if with rabbitmq; then
        rabbitmq="{\"amqpUrl\": \"amqps://$HOST_IP:$RABBITMQ_PORT\",
            \"managementUrl\": \"https://$HOST_IP:$RABBITMQ_MANAGEMENT_PORT\", \"adminSecretRef\": {\"name\": \"cell-local-rabbitmq\"}}"
    fi
    # All of them: of a few messages, one of a hundred is none.
    if with observability; then traces="{\"endpoint\": \"http://$HOST_IP:$OTLP_GRPC_PORT\", \"ratio\": 1}"; fi
    kubectl create --dry-run=client -o json -f "$ROOT/examples/cells/local.yaml" |
        jq --argjson registry "$registry" --argjson search "$search" --argjson rabbitmq "$rabbitmq" --argjson traces "$traces" \
            --arg authority "$authority" '.spec.caBundle = $authority | if $registry then .spec.schemaRegistry = $registry else . end |
             if $search then .spec.opensearch = $search else . end | if $rabbitmq then .spec.rabbitmq = $rabbitmq else . end | if $traces then .spec.observability.traces = $traces else . end'
}

# tenant_up NAME: applies an example and waits until it is Ready and responds: after a restart of the machine the
# stored status is Ready before its pods are back.
tenant_up() {
    tenant_manifest "$1" | apply -f -
    if ! kubectl -n "$1" wait --for=condition=Ready messengertenant --all --timeout=300s; then
        unmet -n "$1"
        kubectl -n "$1" get pods -o wide
        die "tenant $1 is not Ready: see above, and \`kubectl -n $NAMESPACE logs deployment/posthouse-operator\`"
    fi
    await 300 - tenant_runs_these_images "$1"
    await 120 - tenant_answers "$1"
}

# unmet KUBECTL-OPTION...: prints the conditions of tenants that are not True.
unmet() {
    kubectl get messengertenants "$@" -o json |
        jq -r '.items[] | .metadata.name as $n | .status.conditions[]? | select(.status != "True") | "\($n): \(.type) \(.reason): \(.message)"'
}

# tenant_manifest NAME: prints an example with the requested topology, and with what its cell can carry.
tenant_manifest() {
    local files
    files=$(kubectl get messengercell local -o json | jq '.spec | has("s3")')
    kubectl create --dry-run=client -o json -f "$ROOT/examples/tenants/$1.yaml" | jq --arg topology "$TOPOLOGY" --argjson files "$files" \
        'if .kind == "List" then .items[] else . end | if .kind == "MessengerTenant" then
            .spec.topology = $topology | if $files then . else del(.spec.services.media) end
        else . end'
}

# Right after an upgrade of the operator, Ready still describes the images before.
tenant_runs_these_images() {
    kubectl -n "$1" get deployments -o json | jq -e --arg tag ":$(cat "$STATE/image-tag")" '.items | length > 0 and all(
        (.spec.template.spec.containers[0].image | endswith($tag)) and .status.observedGeneration == .metadata.generation
        and .status.updatedReplicas == .spec.replicas and .status.availableReplicas == .spec.replicas
        and .status.replicas == .spec.replicas)'
}

tenant_answers() {
    local path
    for path in "${PROBE_PATHS[@]}"; do
        curl -sf -o /dev/null -H "Host: $1.localhost" "http://127.0.0.1:$HTTP_PORT$path" || return 1
    done
}

card() {
    local browser='create an account'
    [ -f "$APP/dist/index.html" ] || browser='once it is built: install Node 22 and run make up again'
    cat << CARD

  Posthouse is up: two messengers, acme and globex, on one set of backends.

    look       make status              or  export KUBECONFIG=$KUBECONFIG; kubectl get mt -A
    open       http://acme.localhost:$HTTP_PORT/         in a browser: $browser
    read       http://acme.localhost:$HTTP_PORT/docs     http://globex.localhost:$HTTP_PORT/docs
    watch      make demo                two users of each tenant register and talk
    sign in    $BIN/posthouse chat --url http://acme.localhost:$HTTP_PORT --user ann --register
    stop       make down                data stays; \`make clean\` removes it
CARD
    if with console; then echo "    console    http://127.0.0.1:$CONSOLE_PORT   topics, groups and lag of Kafka"; fi
    if with observability; then observability_card; fi
    if with registry; then echo "    schemas    $REGISTRY_URL/subjects"; fi
    if with opensearch; then echo "    OpenSearch $OPENSEARCH_URL   spec.services.search.engine: OpenSearch"; fi
    if with rabbitmq; then echo "    queues     https://$HOST_IP:$RABBITMQ_MANAGEMENT_PORT   RabbitMQ, as admin with $STATE/secrets/rabbitmq-admin"; fi
}

# Metrics, alerts, traces and logs: Prometheus, Alertmanager, an OpenTelemetry collector, Zipkin and VictoriaLogs. Brought up on request,
# WITH=observability, after the tenants. Pods hand spans to the collector on the bridge, which reads what they log from the node's files. The rest listens on loopback and wants no password: every user of
# this machine reads what is in it.
PROMETHEUS_PORT=17090
ALERTMANAGER_PORT=17093
ZIPKIN_PORT=17411
VICTORIALOGS_PORT=17428
SPANS_PORT=17889
OTLP_GRPC_PORT=14317
OTLP_HTTP_PORT=14318
PROMETHEUS_URL=http://127.0.0.1:$PROMETHEUS_PORT

PROMETHEUS_HOME=$CACHE/prometheus/$PROMETHEUS
ALERTMANAGER_HOME=$CACHE/alertmanager/$ALERTMANAGER
ZIPKIN_HOME=$CACHE/zipkin/$ZIPKIN
VICTORIALOGS_HOME=$CACHE/victorialogs/$VICTORIALOGS
# Its module names the versions.
OTELCOL_SOURCE=$ROOT/deploy/local/otelcol
OTELCOL_HOME=$CACHE/otelcol/$(cat "$OTELCOL_SOURCE"/main.go "$OTELCOL_SOURCE"/go.* | sha256sum | cut -c1-12)

# Prometheus without the discovery of targets in other systems than Kubernetes, which is most of what there is to compile.
download_observability() {
    go_program "$PROMETHEUS_HOME" "github.com/prometheus/prometheus/cmd/prometheus@$PROMETHEUS" -tags remove_all_sd,enable_kubernetes_sd
    go_program "$VICTORIALOGS_HOME" "github.com/VictoriaMetrics/VictoriaLogs/app/victoria-logs@$VICTORIALOGS"
    build_alertmanager
    build_otelcol
    download_zipkin
}

# Its module lacks the pages of its own, which it embeds: `amtool` and Prometheus need none.
build_alertmanager() {
    local part=$ALERTMANAGER_HOME.part source
    if [ -d "$ALERTMANAGER_HOME" ]; then return; fi
    rm -rf "$part" && mkdir -p "$part"
    source=$(cd "$OTELCOL_SOURCE" && go mod download -json "github.com/prometheus/alertmanager@$ALERTMANAGER" | jq -er .Dir)
    cp -r "$source" "$part/source"
    chmod -R u+w "$part/source"
    mkdir -p "$part/source/ui/app/dist"
    echo '<!doctype html><title>Alertmanager</title><p>Alerts: <a href="api/v2/alerts">api/v2/alerts</a>' > "$part/source/ui/app/dist/index.html"
    go_build "$part/source" "$part/alertmanager" ./cmd/alertmanager ''
    rm -rf "$part/source"
    mv "$part" "$ALERTMANAGER_HOME"
}

build_otelcol() {
    local part=$OTELCOL_HOME.part
    if [ -d "$OTELCOL_HOME" ]; then return; fi
    rm -rf "$part" && mkdir -p "$part"
    go_build "$OTELCOL_SOURCE" "$part/otelcol" . ''
    mv "$part" "$OTELCOL_HOME"
}

download_zipkin() {
    local part=$ZIPKIN_HOME.part
    if [ -d "$ZIPKIN_HOME" ]; then return; fi
    rm -rf "$part" && mkdir -p "$part"
    mvn -q -B dependency:copy "-Dartifact=io.zipkin:zipkin-server:$ZIPKIN:jar:exec" "-DoutputDirectory=$part"
    mv "$part" "$ZIPKIN_HOME"
}

observability_up() {
    local slow
    # It takes as long as all others together.
    zipkin_up &
    slow=$!
    alertmanager_up
    victorialogs_up
    otelcol_up
    prometheus_up
    wait $slow
}

# Go's memory limit is what its garbage collector keeps below; the stores have bounds of their own beside it.
alertmanager_up() {
    data_folder alertmanager
    free_port alertmanager 127.0.0.1 $ALERTMANAGER_PORT
    configuration alertmanager alertmanager.yaml < "$ROOT/deploy/local/conf/alertmanager.yaml"
    start_confined alertmanager env GOMEMLIMIT=48MiB "$(in_cache "$ALERTMANAGER_HOME")/alertmanager" --config.file=$IN_STATE/conf/alertmanager.yaml \
        --storage.path=$IN_STATE/data/alertmanager --web.listen-address=127.0.0.1:$ALERTMANAGER_PORT --cluster.listen-address=
    await 30 alertmanager curl -sf "http://127.0.0.1:$ALERTMANAGER_PORT/-/ready"
}

zipkin_up() {
    data_folder zipkin
    free_port zipkin 127.0.0.1 $ZIPKIN_PORT
    # It keeps traces in its heap. Out of memory it would go on, and answer nobody.
    start_confined zipkin java -Xms64m -Xmx256m -XX:+ExitOnOutOfMemoryError $SMALL_JVM -jar "$(in_cache "$ZIPKIN_HOME")/zipkin-server-$ZIPKIN-exec.jar" \
        "--armeria.ports[0].ip=127.0.0.1" "--armeria.ports[0].port=$ZIPKIN_PORT" "--armeria.ports[0].protocols[0]=http" \
        --zipkin.storage.mem.max-spans=50000 "--zipkin.ui.logs-url=$(logs_of '{traceId}')"
    await 120 zipkin curl -sf "http://127.0.0.1:$ZIPKIN_PORT/health"
}

# logs_of TRACE: prints the address of the page with what was logged in a trace.
logs_of() { echo "http://127.0.0.1:$VICTORIALOGS_PORT/select/vmui/#/?query=trace_id%3A%3D%22$1%22&g0.range_input=1d&g0.relative_time=last_24_hours"; }

victorialogs_up() {
    data_folder victorialogs
    free_port victorialogs 127.0.0.1 $VICTORIALOGS_PORT
    start_confined victorialogs env GOMEMLIMIT=96MiB "$(in_cache "$VICTORIALOGS_HOME")/victoria-logs" -storageDataPath=$IN_STATE/data/victorialogs \
        -httpListenAddr=127.0.0.1:$VICTORIALOGS_PORT -retentionPeriod=1d -retention.maxDiskSpaceUsageBytes=512MiB -memory.allowedBytes=64MiB
    await 30 victorialogs curl -sf "http://127.0.0.1:$VICTORIALOGS_PORT/health"
}

otelcol_up() {
    data_folder otelcol
    free_port otelcol $HOST_IP $OTLP_GRPC_PORT
    free_port otelcol $HOST_IP $OTLP_HTTP_PORT
    free_port otelcol 127.0.0.1 $SPANS_PORT
    OTLP_GRPC_ADDRESS=$HOST_IP:$OTLP_GRPC_PORT OTLP_HTTP_ADDRESS=$HOST_IP:$OTLP_HTTP_PORT ZIPKIN_ADDRESS=127.0.0.1:$ZIPKIN_PORT \
        SPANS_ADDRESS=127.0.0.1:$SPANS_PORT VICTORIALOGS_ADDRESS=127.0.0.1:$VICTORIALOGS_PORT CHECKPOINTS=$IN_STATE/data/otelcol \
        POD_LOGS=$IN_STATE/log/pods render otelcol.yaml | configuration otelcol otelcol.yaml
    pod_logs_for otelcol
    start_confined otelcol env GOMEMLIMIT=120MiB "$(in_cache "$OTELCOL_HOME")/otelcol" --config=$IN_STATE/conf/otelcol.yaml
    await 30 otelcol port_open $HOST_IP $OTLP_GRPC_PORT
}

# pod_logs_for DAEMON: lets a daemon read the logs of pods, those to come too. The container runtime makes them for root and the group of their folder,
# which folders below it inherit.
pod_logs_for() {
    local folder=$STATE/log/pods group
    group=$(user_of "$1")
    chgrp "$group" "$folder"
    chmod g+s "$folder"
    # Some go while this looks at them.
    find "$folder" -mindepth 1 -exec chgrp -h "$group" {} + 2> /dev/null || true
    find "$folder" -mindepth 1 -type d -exec chmod g+s {} + 2> /dev/null || true
}

# Tenants that come later are scraped from the next `make observe` on: each has a token of its own.
prometheus_up() {
    local scraped=() tenant name folder=$IN_STATE/conf/prometheus
    data_folder prometheus
    free_port prometheus 127.0.0.1 $PROMETHEUS_PORT
    certificate prometheus /CN=posthouse:prometheus
    (umask 077; kubeconfig prometheus > "$PKI/prometheus.kubeconfig")
    keep_for prometheus "$PKI/prometheus.kubeconfig"
    mapfile -t scraped < <(tenants)
    {
        render observability.yaml
        printf '%s\n' "${scraped[@]%/*}" $NAMESPACE | sort -u | while read -r name; do
            SCRAPED_NAMESPACE=$name render observability-binding.yaml
        done
    } | apply -f -
    secret operator-metrics | configuration prometheus prometheus/operator.token
    for tenant in "${scraped[@]}"; do
        kubectl -n "${tenant%/*}" get secret "${tenant#*/}-metrics" -o jsonpath='{.data.token}' | base64 -d |
            configuration prometheus "prometheus/${tenant/\//.}.token"
    done
    {
        echo 'scrape_configs:'
        for tenant in "${scraped[@]}"; do
            CONF=$folder TENANT_NAMESPACE=${tenant%/*} TENANT_NAME=${tenant#*/} render prometheus-tenant.yaml
        done
    } | configuration prometheus prometheus/tenants.yaml
    local_rules | configuration prometheus prometheus/rules.yaml
    configuration prometheus prometheus/web/index.html < "$ROOT/deploy/observability/dashboards.html"
    jq -s . "$ROOT"/charts/posthouse/monitoring/dashboards/*.json | configuration prometheus prometheus/web/dashboards.json
    jq -n --arg trace "http://127.0.0.1:$ZIPKIN_PORT/zipkin/traces/TRACE" --arg logs "$(logs_of TRACE)" '{$trace, $logs}' |
        configuration prometheus prometheus/web/links.json
    CONF=$folder ALERTMANAGER_ADDRESS=127.0.0.1:$ALERTMANAGER_PORT SPANS_ADDRESS=127.0.0.1:$SPANS_PORT render prometheus.yaml |
        configuration prometheus prometheus/prometheus.yaml
    start_confined prometheus env GOMEMLIMIT=160MiB "$(in_cache "$PROMETHEUS_HOME")/prometheus" --config.file=$folder/prometheus.yaml \
        --storage.tsdb.path=$IN_STATE/data/prometheus --storage.tsdb.retention.time=7d --storage.tsdb.retention.size=512MB \
        --web.listen-address=127.0.0.1:$PROMETHEUS_PORT --web.user-assets=$folder/web --enable-feature=exemplar-storage \
        --query.max-concurrency=4 --query.max-samples=5000000
    await 60 prometheus curl -sf "$PROMETHEUS_URL/-/ready"
}

# local_rules: prints the chart's rules. An alert waits for a minute at most: who makes a fault here wants to see it.
local_rules() { sed -E 's/^( +for: )([0-9]+[hd]|[0-9]{2,}m|[2-9]m)$/\11m/' "$ROOT/charts/posthouse/monitoring/rules.yaml"; }

# tenants: prints NAMESPACE/NAME of every tenant that has a Secret for its scraper, one a line.
tenants() {
    local tenant
    for tenant in $(kubectl get messengertenants -A -o json | jq -r '.items[].metadata | "\(.namespace)/\(.name)"'); do
        if kubectl -n "${tenant%/*}" get secret "${tenant#*/}-metrics" > /dev/null 2>&1; then echo $tenant; fi
    done
}

observability_card() {
    cat << CARD
    dashboards $PROMETHEUS_URL/user/   alerts $PROMETHEUS_URL/api/v1/alerts
    traces     http://127.0.0.1:$ZIPKIN_PORT/zipkin/   spans and logs by OTLP to $HOST_IP:$OTLP_GRPC_PORT
    logs       http://127.0.0.1:$VICTORIALOGS_PORT/select/vmui/
CARD
}

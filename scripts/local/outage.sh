# An outage that is read by the runbook alone: a backend chosen at random is killed, and what is printed is what an administrator finds who has alerts, runbook,
# dashboards, logs, traces and the conditions of tenants, and does not know what was killed. `ask`, `waits`, `queries` and `log_lines` are of scripts/observe; users
# and kills are of faults.sh, which comes before this file.
OUTAGE_SECONDS=${OUTAGE_SECONDS:-600}
# What may be killed, with the condition of a tenant that is about it. No example tenant uses OpenSearch, and none is less Ready without the registry.
OUTAGES=(kafka cassandra postgres keycloak redis s3 rabbitmq)
declare -A CONDITION_OF=(
    [kafka]=KafkaReady
    [cassandra]=StoreReady
    [postgres]=DatabaseReady
    [keycloak]=IdentityReady
    [redis]=CacheReady
    [s3]=MediaReady
    [rabbitmq]=QueuesReady
)
# Some alerts compare the last ten minutes.
CALM_WITHIN_SECONDS=900
KILLED=

mend_outage() { "${KILLED}_up"; }

# active: prints the alerts that Alertmanager has, one JSON document each: first those of the tenant whose users write.
active() {
    curl -sf --max-time 10 "http://127.0.0.1:$ALERTMANAGER_PORT/api/v2/alerts?silenced=false&inhibited=false" |
        jq -c --arg tenant $FAULTY_TENANT 'sort_by(.labels.tenant != $tenant)[]'
}

# alert_names: prints the name of each of them once.
alert_names() { active | jq -r .labels.alertname | sort -u; }

# section ANCHOR: prints a section of the runbook, by the name of its heading in links.
section() {
    awk -v anchor="$1" '/^#+ / {
        name = tolower($0); sub(/^#+ /, "", name); gsub(/[^a-z0-9 -]/, "", name); gsub(/ /, "-", name); inside = name == anchor; next
    } inside' "$ROOT/docs/runbook.md"
}

# first_look: prints dashboard, panel and query for logs with which a section begins, one a line.
# shellcheck disable=SC2016 # backquotes of Markdown
first_look() { sed -nE 's/^Panel: "([^"]+)" of "([^"]+)"[.] Logs: `([^`]+)`[.]$/\2\n\1\n\3/p' | head -n 3; }

# first_step: prints what a section says first, and the first of its points.
first_step() { awk '/^Panel: / {next} /^- / {if (points++) exit} NF == 0 {if (points) exit; if (texts) seen = 1; next} {if (seen && !points) exit; texts++; print}'; }

# indented TITLE: prints its input beside a title, in lines that fit a terminal.
indented() { fold -s -w 130 | sed -e "1s/^/$(printf '    %-10s' "$1")/" -e '2,$s/^/              /'; }

# drawn DASHBOARD PANEL: prints what the queries of a panel find now, with all tenants chosen.
drawn() {
    local dashboard panel query
    while IFS=$'\t' read -r dashboard panel query; do
        if [ "$dashboard" = "Posthouse / $1" ] && [ "$panel" = "$2" ]; then
            ask query --data-urlencode "query=$query" |
                jq -r '.data.result[] | "\(.metric | to_entries | map("\(.key)=\(.value)") | join(" ")) \(.value[1])"'
        fi
    done < <(queries) | head -n 8
}

# failing: prints the id of a trace of the last quarter of an hour that has an error: of the one that waited longest for it, which says most.
failing() {
    local least_us
    for least_us in 100000 1; do
        curl -sf --max-time 30 "http://127.0.0.1:$ZIPKIN_PORT/api/v2/traces?annotationQuery=error&minDuration=$least_us&lookback=900000&limit=100" |
            jq -er '[.[] | {id: .[0].traceId, us: (map(select(.tags.error) | .duration // 0) | max // 0)}] | max_by(.us).id' && return
    done
    return 1
}

# spans TRACE: prints its spans, in the order in which they began.
spans() {
    curl -sf --max-time 30 "http://127.0.0.1:$ZIPKIN_PORT/api/v2/trace/$1" | jq -r 'sort_by(.timestamp)[:12][]
        | "\(.localEndpoint.serviceName // "-"): \(.name // "-"), \((.duration // 0) / 1000 | round) ms\(if .tags.error then ", error: \(.tags.error)" else "" end)"'
}

# followed ALERT: goes from an alert, one JSON document, to a panel, to logs and to a trace.
followed() {
    local alert anchor tenant look lines trace=
    IFS=$'\t' read -r alert anchor tenant < <(jq -r '[.labels.alertname, (.annotations.runbook_url | sub("^[^#]*#"; "")), .labels.tenant // ""] | @tsv' <<< "$1")
    jq -r '"\(.labels.alertname) (\(.labels.severity)): \(.annotations.summary)"' <<< "$1" | indented alert
    section "$anchor" | first_step | indented runbook
    mapfile -t look < <(section "$anchor" | first_look)
    if [ ${#look[@]} != 3 ]; then
        echo "the section #$anchor of $alert names no panel and no query for logs" | indented panel
        return
    fi
    { echo "\"${look[1]}\" of \"${look[0]}\""; drawn "${look[0]}" "${look[1]}"; } | indented panel
    # The namespace of each tenant of the stack is called after it.
    lines=$(log_lines "_time:15m (${look[2]//NAMESPACE/${tenant:-$FAULTY_TENANT}}) | sort by (_time) desc | limit 5") || lines=
    if [ -n "$lines" ]; then
        jq -r '"\(.time[11:19]) \(.level // "-") \(.pod): \(.message)"' <<< "$lines" | cut -c 1-390 | indented log
        trace=$(jq -r '.trace_id // empty' <<< "$lines" | head -n 1)
    else
        echo "none: ${look[2]}" | indented log
    fi
    # A line that was not written in a trace leads to none: then it is one that failed meanwhile.
    if [ -n "$trace" ] || trace=$(failing); then
        { echo "$trace"; spans "$trace"; } | indented trace
    else
        echo none | indented trace
    fi
}

# suspects: prints the backends that the conditions of tenants say to be away.
suspects() {
    local name types=()
    mapfile -t types < <(kubectl get messengertenants -A -o json | jq -r '[.items[].status.conditions[]? | select(.status != "True" and (.reason | startswith("Backend"))) | .type] | unique[]')
    for name in "${OUTAGES[@]}"; do
        [[ " ${types[*]} " == *" ${CONDITION_OF[$name]} "* ]] || continue
        # It keeps what it has in PostgreSQL, and is away with it.
        if [ $name = keycloak ] && [[ " ${types[*]} " == *" ${CONDITION_OF[postgres]} "* ]]; then continue; fi
        echo $name
    done
}

all_ready() { kubectl get messengertenants -A -o json | jq -e 'all(.items[].status.conditions[]?; .type != "Ready" or .status == "True")' > /dev/null; }

# new_alerts BEFORE: prints the names of alerts that were not active before, but for those about budgets, which look back for hours.
new_alerts() {
    local now
    now=$(alert_names) && comm -13 <(echo "$1") <(grep -v '^PosthouseErrorBudget' <<< "$now")
}

# calm BEFORE: all is as it was before the outage.
calm() {
    local left
    left=$(new_alerts "$1") && [ -z "$left" ] && all_ready
}

# since BEGAN: prints how long ago that was.
since() { seconds $(($(now_ms) - $1)); }

# outage [SEED]: kills a backend, prints where its alerts lead for as long as it is away, brings it back, and says at the end what it was. It fails when the path leads
# elsewhere.
outage() {
    local seed=${1:-$RANDOM} name able=() before shown alerts alert began path
    [[ $seed =~ ^[0-9]{1,9}$ ]] || die "$seed is not a seed: a number of up to nine digits"
    [ -x "$BIN/posthouse" ] || die "$BIN/posthouse is not there: make up"
    take_lock
    trap over EXIT
    trap 'exit 130' INT TERM
    all_ready || die "a tenant is not Ready before there is an outage: scripts/status"
    for name in "${OUTAGES[@]}"; do if running $name; then able+=("$name"); fi; done
    RANDOM=$((10#$seed))
    KILLED=${able[RANDOM % ${#able[@]}]}
    before=$(alert_names)
    shown=$before
    if [ -n "$before" ]; then echo "fires before: ${before//$'\n'/, }"; fi
    crowd_up
    talk 2 0 || die "no messages come to the store before there is an outage"
    MADE=outage
    signal $KILLED KILL
    began=$(now_ms)
    echo "a backend is killed; for $OUTAGE_SECONDS s this is what there is to be seen"
    until [ $(($(now_ms) - began)) -ge $((OUTAGE_SECONDS * 1000)) ]; do
        mapfile -t alerts < <(active || true)
        for alert in "${alerts[@]}"; do
            name=$(jq -r .labels.alertname <<< "$alert")
            if grep -qxF "$name" <<< "$shown"; then continue; fi
            shown+=$'\n'$name
            printf '\nafter %s\n' "$(since $began)"
            followed "$alert" || true
        done
        sleep 5
    done
    printf '\nafter %s\n' "$(since $began)"
    { unmet -A || true; } | indented condition
    path=$(suspects | paste -sd ' ')
    began=$(now_ms)
    mended > /dev/null
    if waits $CALM_WITHIN_SECONDS calm "$before"; then
        printf '\nall tenants are Ready and all alerts over %s after it was brought back\n' "$(since $began)"
    else
        printf '\nnot over %s s after it was brought back:\n' $CALM_WITHIN_SECONDS
        { unmet -A || true; new_alerts "$before" || true; } | indented left
        path+=' (and it did not end)'
    fi
    echo "the path leads to: ${path:-nothing}"
    echo "it was:            $KILLED (seed $seed)"
    [ "$path" = "$KILLED" ] || die "the path does not lead to what it was"
}

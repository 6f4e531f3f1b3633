# Faults that are made on the stack that is up, to see the alert that docs/runbook.md has for each: it fires, and ends when the fault is mended. What a story
# breaks is mended in any case, also when it is interrupted. `ask` and `waits` are of scripts/observe, which sources it.
FAULTS=(operator-not-leading broker-down consumer-lag slow-store full-queue expiring-certificate)
declare -A ALERT_OF=(
    [operator-not-leading]=PosthouseOperatorNotLeading
    [broker-down]=PosthouseLogSlow
    [consumer-lag]=PosthouseMessagesBehind
    [slow-store]=PosthouseStoreSlow
    [full-queue]=PosthousePushesDropped
    [expiring-certificate]=PosthouseCertificateExpires
)
FAULTY_TENANT=acme
# From the moment at which an alert may fire: what it compares is the last five minutes in most cases, of which the fault is to be enough.
FIRES_WITHIN_SECONDS=120
# Until then the five minutes are over, too.
ENDS_WITHIN_SECONDS=480

# What is under way: the processes of a story, the one of them that sends signals, the fault that is made, and the cell that a story has of its own.
STORY=()
LIMPING=
MADE=
CELL=

# --- users who talk --------------------------------------------------------

TALKERS=4
# A body of the largest size, less what a line has around it.
LARGE=$(printf '%16000s' '' | tr ' ' x)

# beside COMMAND...: begins a part of a story, which is $! then. It has no lock, which ends with the story, and says nothing: a shell whose command is ended
# says so, in the middle of the line that the story prints.
beside() { "$@" < /dev/null > /dev/null 2>&1 9>&- & }

# crowd_up: registers users who are in one group. They stay in the tenant's realm.
crowd_up() {
    local n
    CROWD=$(openssl rand -hex 4)
    CROWD_PASSWORD=$(openssl rand -hex 16)
    for ((n = 0; n <= TALKERS; n++)); do crowd_chat "crowd$CROWD$n" --register < /dev/null > /dev/null; done
    {
        printf '/group story%s' "$CROWD"
        for ((n = 1; n <= TALKERS; n++)); do printf ' @crowd%s%s' "$CROWD" $n; done
        echo
    } | crowd_chat "crowd${CROWD}0" > /dev/null
}

crowd_chat() {
    POSTHOUSE_PASSWORD=$CROWD_PASSWORD "$BIN/posthouse" chat --url "http://$FAULTY_TENANT.localhost:$HTTP_PORT" --user "$@"
}

# talk SMALL LARGE: all but the first user of the crowd write so many small and large messages every half second, until the story ends. Returns when
# their messages come to the store.
talk() {
    local n
    for ((n = 1; n <= TALKERS; n++)); do
        beside talker "crowd$CROWD$n" "$@"
        STORY+=($!)
    done
    waits 90 is_talking $((TALKERS * $1))
}

# is_talking RATE: reports whether more messages than that are applied in a second.
is_talking() {
    ask query --data-urlencode "query=sum(rate(posthouse_message_records_total{tenant=\"$FAULTY_TENANT\"}[30s])) > $1" | jq -e '.data.result | length > 0' > /dev/null
}

# A client that gives up, as in an outage, is followed by another one.
talker() {
    while true; do
        lines "$2" "$3" | crowd_chat "$1" --to "story$CROWD" --follow || true
        sleep 2
    done
}

lines() {
    local i
    while true; do
        for ((i = 0; i < $1; i++)); do echo "one of $1" || return; done
        for ((i = 0; i < $2; i++)); do echo "$LARGE" || return; done
        sleep 0.5
    done
}

# --- what is done to processes ---------------------------------------------

# tree PID: prints a process and what it has started. A sandbox may be a process of its own, with the daemon below it.
tree() {
    local child children=()
    echo "$1"
    read -ra children 2> /dev/null < "/proc/$1/task/$1/children" || true
    for child in "${children[@]}"; do tree "$child"; done
}

# signal DAEMON SIGNAL
signal() {
    local pid pids
    pid=$(pid_of "$1") || return 1
    mapfile -t pids < <(tree "$pid")
    kill "-$2" "${pids[@]}"
}

# limp STOPPED GOING COMMAND...: has something stand still and go on for so many seconds each, until the story ends. The command sends it a signal.
limp() {
    beside limping "$@"
    LIMPING=$!
}
limping() {
    local stopped=$1 going=$2; shift 2
    while true; do
        "$@" STOP || true
        sleep "$stopped"
        "$@" CONT || true
        sleep "$going"
    done
}

# --- the faults ------------------------------------------------------------

REPLICAS=
make_operator_not_leading() {
    REPLICAS=$(kubectl -n $NAMESPACE get deployment posthouse-operator -o jsonpath='{.spec.replicas}')
    [ "$REPLICAS" -gt 0 ] || die 'the operator is scaled to 0 already'
    kubectl -n $NAMESPACE scale deployment posthouse-operator --replicas=0
}
mend_operator_not_leading() {
    # It was interrupted before there was a fault.
    [ -n "$REPLICAS" ] || return 0
    kubectl -n $NAMESPACE scale deployment posthouse-operator --replicas="$REPLICAS"
    kubectl -n $NAMESPACE rollout status deployment posthouse-operator --timeout=120s
}

make_broker_down() {
    talk 2 0 && signal kafka KILL
}
mend_broker_down() { kafka_up; }

# A store that does not answer at all: the log has more and more that is not applied.
make_consumer_lag() {
    talk 10 0 && signal cassandra STOP
}
mend_consumer_lag() { signal cassandra CONT; }

make_slow_store() {
    talk 2 0 && limp 1 0.3 signal cassandra
}
mend_slow_store() { signal cassandra CONT; }

# A user who reads nothing on some devices while others write much. These devices have event streams: a WebSocket whose client hangs ends for a pong
# that does not come, within half a minute and before the buffers on its way are full.
make_full_queue() {
    local token n
    # Half of what a user may send in bytes. The buffers of the kernels and of Traefik take half a minute of it, and the gateway waits for 20 s more.
    talk 10 1 || return
    # Good for five minutes.
    token=$(crowd_token "crowd${CROWD}0") || return
    for ((n = 0; n < DEAF_DEVICES; n++)); do
        beside deaf "$token"
        STORY+=($!)
    done
}
# What they do not read has ended with the story.
mend_full_queue() { :; }

DEAF_DEVICES=3
# Longer than it takes until the gateway ends such a stream.
DEAF_SECONDS=75

# deaf TOKEN: requests an event stream and reads nothing of it, again and again, until the story ends.
deaf() {
    local device
    while true; do
        device=$(< /proc/sys/kernel/random/uuid)
        (
            exec 3<> "/dev/tcp/127.0.0.1/$HTTP_PORT" &&
                printf 'GET /events?device=%s HTTP/1.1\r\nHost: %s.localhost\r\nAuthorization: Bearer %s\r\n\r\n' "$device" $FAULTY_TENANT "$1" >&3 &&
                sleep $DEAF_SECONDS
        ) || true
        sleep 1
    done
}

# crowd_token USER: signs in, and prints the access token.
crowd_token() {
    printf '{"username": "%s", "password": "%s"}' "$1" "$CROWD_PASSWORD" |
        curl -sf --max-time 30 -H "Host: $FAULTY_TENANT.localhost" -H 'content-type: application/json' --data-binary @- \
            "http://127.0.0.1:$HTTP_PORT/api/auth/sign-in" | jq -er .access_token
}

# An authority that ends soon, beside those that the local cell trusts. It is in a cell without tenants: a change of a bundle replaces the pods of all
# tenants of its cell. The key is thrown away, so nothing is ever signed by it.
make_expiring_certificate() {
    local certificate
    certificate=$(openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 10 -subj /CN=posthouse-local-expiring \
        -addext keyUsage=critical,keyCertSign,cRLSign -keyout /dev/null 2> /dev/null) && cell_trusts "$certificate"
}
mend_expiring_certificate() { cell_trusts; }

# cell_trusts [CERTIFICATE]: applies a cell that is the local one under another name, with this certificate in its bundle too.
cell_trusts() {
    CELL=expiring
    kubectl get messengercell local -o json | jq --arg name $CELL --arg more "${1:-}" '{apiVersion, kind, metadata: {$name},
        spec: (.spec | del(.deletionProtection) | .caBundle = ([.caBundle // empty, $more] | map(select(. != "")) | join("\n")))}' | apply -f -
}

# --- a story ---------------------------------------------------------------

# states ALERT: prints the states in which the alert is for the tenant, or for none.
states() {
    ask alerts | jq -r --arg name "$1" --arg tenant $FAULTY_TENANT \
        '.data.alerts[] | select(.labels.alertname == $name and (.labels.tenant // $tenant) == $tenant) | .state'
}
# Of a Prometheus that does not answer, neither is true.
fires() { local found; found=$(states "$1") && [[ $found == *firing* ]]; }
is_quiet() { local found; found=$(states "$1") && [ -z "$found" ]; }

# mended: ends what a story does, and mends its fault. What is interrupted meanwhile is mended once more when all is over.
mended() {
    local pid
    if [ -n "$LIMPING" ]; then
        # It is gone before what it stopped is to go on for good.
        end_tree "$LIMPING"
        wait "$LIMPING" 2> /dev/null || true
        LIMPING=
    fi
    for pid in "${STORY[@]}"; do end_tree "$pid"; done
    STORY=()
    if [ -z "$MADE" ] || "mend_${MADE//-/_}"; then MADE=; fi
}

# over: leaves nothing of a story behind, however it ended.
over() {
    mended > /dev/null || true
    if [ -n "$CELL" ]; then kubectl delete messengercell $CELL --ignore-not-found --timeout=60s > /dev/null || true; fi
}

# fault NAME: makes it, waits for its alert, mends it and waits until the alert is over.
fault() {
    local name=$1 alert=${ALERT_OF[$1]} waited began
    # Of the rules that are loaded, in seconds.
    if ! waited=$(ask rules | jq -er --arg name "$alert" '[.data.groups[].rules[] | select(.type == "alerting" and .name == $name) | .duration | floor] | first'); then
        echo "  $name: no rule $alert is loaded: make observe"
        return 1
    fi
    if ! waits $ENDS_WITHIN_SECONDS is_quiet "$alert"; then
        echo "  $name: $alert fires before there is a fault"
        return 1
    fi
    MADE=$name
    if ! "make_${name//-/_}" > /dev/null; then
        echo "  $name: the fault cannot be made"
        mended > /dev/null
        return 1
    fi
    began=$(now_ms)
    if ! waits $((waited + FIRES_WITHIN_SECONDS)) fires "$alert"; then
        echo "  $name: $alert does not fire within $((waited + FIRES_WITHIN_SECONDS)) s"
        mended > /dev/null
        return 1
    fi
    printf '  %-22s %-30s fires after %s' "$name" "$alert" "$(seconds $(($(now_ms) - began)))"
    began=$(now_ms)
    mended > /dev/null
    if ! waits $ENDS_WITHIN_SECONDS is_quiet "$alert"; then
        echo ", and is not over $ENDS_WITHIN_SECONDS s after the fault was mended"
        return 1
    fi
    printf ', and is over %s after the fault was mended\n' "$(seconds $(($(now_ms) - began)))"
}

# faults [NAME...]: the story of each fault, or of those that are named.
faults() {
    local name failed=()
    [ $# -gt 0 ] || set -- "${FAULTS[@]}"
    for name; do [ -n "${ALERT_OF[$name]:-}" ] || die "there is no fault $name: ${FAULTS[*]}"; done
    [ -x "$BIN/posthouse" ] || die "$BIN/posthouse is not there: make up"
    # Another make of the stack would start what is killed here.
    take_lock
    trap over EXIT
    trap 'exit 130' INT TERM
    crowd_up
    for name; do fault "$name" || failed+=("$name"); done
    [ ${#failed[@]} = 0 ] || die "failed: ${failed[*]}"
}

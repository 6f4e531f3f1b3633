# What every script here starts with: paths, addresses, steps with their times, processes by pid file.
# Source it; it has no effect of its own besides making the folders of this checkout's state.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
STATE=$ROOT/.local                                         # data, logs, certificates, passwords of this checkout
CACHE=${POSTHOUSE_CACHE:-$HOME/.cache/posthouse}           # downloads and builds, keyed by version, shared by checkouts
RUN=/run/posthouse                                         # of the machine: owner, lock, pid files (addresses are the machine's too)
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$CACHE/target}
export KUBECONFIG=$STATE/kubeconfig

BRIDGE=posthouse0
HOST_IP=10.90.0.1
POD_SUBNET=10.90.0.0/16
SERVICE_SUBNET=10.96.0.0/16
DNS_IP=10.96.0.10
NODE=posthouse

# shellcheck source=versions.sh
source "$ROOT/scripts/versions.sh"
# shellcheck source=services.sh
source "$ROOT/scripts/services.sh"

mkdir -p "$STATE"/{log/steps,conf,data,secrets} "$CACHE"
chmod 700 "$STATE/secrets"

die() { echo "error: $*" >&2; exit 1; }
# Holds on every shell: seconds with one decimal, from a number of milliseconds.
seconds() { printf '%d.%ds' $(($1 / 1000)) $((($1 % 1000) / 100)); }
now_ms() { echo $(($(date +%s%N) / 1000000)); }

# --- steps ---------------------------------------------------------------

declare -A STEP_PID STEP_BEGAN

# begin NAME COMMAND...: runs a step in the background, its output in .local/log/steps/NAME.log.
begin() {
    local name=$1; shift
    STEP_BEGAN[$name]=$(now_ms)
    ("$@"; echo $(($(now_ms) - STEP_BEGAN[$name])) > "$STATE/log/steps/${name// /-}.ms") \
        > "$STATE/log/steps/${name// /-}.log" 2>&1 < /dev/null &
    STEP_PID[$name]=$!
}

# finish NAME...: waits for steps and prints their times; a failed one ends the script with the end of its log.
finish() {
    local name log
    for name; do
        log=$STATE/log/steps/${name// /-}.log
        if ended "$name"; then
            printf '  %-28s %8s\n' "$name" "$(seconds "$(<"$STATE/log/steps/${name// /-}.ms")")"
        else
            printf '  %-28s %8s\n\n' "$name" FAILED
            tail -n 20 "$log" | sed 's/^/    /'
            printf '\nstep "%s" failed; the whole of it is in %s\n' "$name" "$log"
            abandon
            exit 1
        fi
    done
}

# ended NAME: waits for a step, shows meanwhile how far those under way are, and fails as it did.
ended() {
    local status=0
    show_progress "$1"
    wait "${STEP_PID[$1]}" || status=$?
    unset "STEP_PID[$1]"
    return $status
}

# show_progress NAME: prints every half minute, until that step has ended, how far the steps under way are.
show_progress() {
    local name=$1 ticks=0 other
    while kill -0 "${STEP_PID[$name]}" 2> /dev/null; do
        sleep 0.1
        if ((++ticks % 300)); then continue; fi
        for other in "${!STEP_PID[@]}"; do
            kill -0 "${STEP_PID[$other]}" 2> /dev/null || continue
            printf '    %-26s %8s  %s\n' "$other" "$(seconds $(($(now_ms) - STEP_BEGAN[$other])))..." \
                "$(tail -n 1 "$STATE/log/steps/${other// /-}.log" | tr -d '\r' | sed 's/^ *//' | cut -c 1-76)"
        done
    done
}

# Ends the steps still under way after another failed. Daemons they started stay: they are in sessions of their own.
abandon() {
    local name
    for name in "${!STEP_PID[@]}"; do end_tree "${STEP_PID[$name]}"; done
    wait || true
    echo "what is running stays up: fix the cause and run the same command again, or end it with \`make down\`"
}

end_tree() {
    local child
    local children=()
    read -ra children 2> /dev/null < "/proc/$1/task/$1/children" || true
    for child in "${children[@]}"; do
        if [ "$(ps -o sid= -p "$child")" = "$(ps -o sid= -p $$)" ]; then end_tree "$child"; fi
    done
    kill "$1" 2> /dev/null || true
}

trap 'abandon; exit 130' INT TERM

step() { begin "$@"; finish "$1"; }

# --- processes -----------------------------------------------------------

# The start time of a living process; a zombie, which some inits leave for a while, is dead.
started_at() { sed 's/.*) //' "/proc/$1/stat" 2> /dev/null | awk '$1 != "Z" && $1 != "X" {print $20}'; }

# A pid file holds the pid and its start time, so that a reused pid is never taken for ours, and a checksum of the command.
pid_of() {
    local pid began
    [ -f "$RUN/pid/$1" ] || return 1
    read -r pid began _ < "$RUN/pid/$1"
    [ -n "$began" ] && [ "$(started_at "$pid")" = "$began" ] && echo "$pid"
}
running() { pid_of "$1" > /dev/null; }

# start NAME COMMAND...: starts a daemon once, and again when its command has changed; its log is .local/log/NAME.log.
start() {
    local name=$1 log=$STATE/log/$1.log command; shift
    command=$(cksum <<< "$*" | cut -d ' ' -f 1)
    if running "$name"; then
        if [ "$(cut -d ' ' -f 3 "$RUN/pid/$name")" = "$command" ]; then return; fi
        stop "$name" 60
    fi
    if [ -f "$log" ] && [ "$(stat -c %s "$log")" -gt 20000000 ]; then mv "$log" "$log.1"; fi
    echo "--- started $(date -u +%FT%TZ)" >> "$log"
    setsid nohup "$@" >> "$log" 2>&1 < /dev/null 9>&- &
    echo "$! $(started_at $!) $command" > "$RUN/pid/$name"
}

# TERM makes it wait until all its clients have gone.
declare -A END_WITH=([postgres]=INT)

# stop NAME [SECONDS]: ends a daemon and kills it when it does not within its time.
stop() {
    local name=$1 pid i
    if pid=$(pid_of "$name"); then
        kill -"${END_WITH[$name]:-TERM}" "$pid" 2>/dev/null || true
        for ((i = ${2:-20} * 10; i > 0; i--)); do
            running "$name" || break
            sleep 0.1
        done
        if running "$name"; then kill -9 "$pid" 2>/dev/null || true; fi
    fi
    rm -f "$RUN/pid/$name"
}

# await SECONDS NAME COMMAND...: polls until the command succeeds; fails when daemon NAME dies or time is up. A program is ended when it takes 20 seconds: a
# server out of memory may take a connection and never answer.
await() {
    local limit=$1 name=$2 end bounded=(); shift 2
    if [ "$(type -t "$1")" = file ]; then bounded=(timeout 20); fi
    end=$(($(now_ms) + limit * 1000))
    until "${bounded[@]}" "$@" > /dev/null 2>&1; do
        if [ "$name" != - ] && ! running "$name"; then
            tail -n 15 "$STATE/log/$name.log"
            die "$name ended while it started: read $STATE/log/$name.log"
        fi
        [ "$(now_ms)" -lt "$end" ] || die "'$*' did not succeed within $limit s$([ "$name" = - ] || echo ": read $STATE/log/$name.log")"
        sleep 0.2
    done
}
port_open() { (exec 3<> "/dev/tcp/$1/$2") 2>/dev/null; }

# free_port NAME ADDRESS PORT: names the process that holds the port of a daemon that is not yet running.
free_port() {
    if running "$1"; then return; fi
    local holder
    holder=$(ss -Hltnp "sport = :$3" | awk -v a="$2:$3" '$4 == a || $4 ~ /^(0\.0\.0\.0|\*|\[::\]):/ {print $6}')
    [ -z "$holder" ] || die "$1 needs $2:$3, which another process holds: $holder. End it and run the command again"
}

# --- small things --------------------------------------------------------

# is_at_least LEAST VERSION: compares versions part by part.
is_at_least() { [ "$(printf '%s\n' "$1" "$2" | sort -V | head -n 1)" = "$1" ]; }

# The parts that the stack does without.
OPTIONAL=(registry opensearch rabbitmq console observability)
# The daemons of the last one. Each of the others is one of its name.
OBSERVABILITY=(prometheus alertmanager otelcol zipkin victorialogs)
# with PART: whether WITH, a list separated by commas, names an optional part.
with() { [[ ",${WITH:-}," == *",$1,"* ]]; }

# secret NAME: prints the password of that name, made at its first use.
secret() {
    local file=$STATE/secrets/$1
    [ -s "$file" ] || (umask 077; printf %s "$(openssl rand -hex 20)" > "$file.$BASHPID" && ln "$file.$BASHPID" "$file" 2>/dev/null; rm -f "$file.$BASHPID")
    cat "$file"
}

# render TEMPLATE: prints deploy/local/conf/TEMPLATE with every ${NAME} replaced by the shell's variable of that name.
render() {
    local text
    text=$(< "$ROOT/deploy/local/conf/$1")
    while [[ $text =~ \$\{([A-Z_]+)\} ]]; do
        [ -v "${BASH_REMATCH[1]}" ] || die "the template $1 names ${BASH_REMATCH[1]}, which is not set"
        text=${text//"${BASH_REMATCH[0]}"/"${!BASH_REMATCH[1]}"}
    done
    printf '%s\n' "$text"
}

# configuration DAEMON FILE: writes its input to .local/conf/FILE, for the daemon's user alone. A daemon that runs with other
# text is stopped, so that it is started with the new one.
configuration() {
    local file=$STATE/conf/$2 is_same=
    own_user "$1"
    mkdir -p "${file%/*}"
    (umask 077; cat > "$file.part")
    if cmp -s "$file.part" "$file"; then is_same=yes; fi
    keep_for "$1" "$file.part"
    mv "$file.part" "$file"
    if [ -z "$is_same" ] && running "$1"; then stop "$1" 60; fi
}

# --- users ---------------------------------------------------------------

# user_of DAEMON: prints the user that a daemon runs as. Each has one of its own, so that what one of them keeps is read by no
# other, taken over or not. The node's own three need root: they make namespaces, mounts and rules of the firewall.
user_of() {
    case $1 in
        containerd | kubelet | kube-proxy) echo root ;;
        *) echo "posthouse-${1#kube-}" ;;
    esac
}

# own_user DAEMON: makes the daemon's user. A daemon that runs as another one, from before it had its own, is stopped.
own_user() {
    local user pid
    user=$(user_of "$1")
    # useradd gives up when another one is at work.
    id "$user" > /dev/null 2>&1 || flock "$RUN/users" useradd --system --user-group --no-create-home --home-dir /nonexistent \
        --shell /usr/sbin/nologin "$user"
    if pid=$(pid_of "$1") && [ "$(uid_of_process "$pid")" != "$(id -u "$user")" ]; then stop "$1" 60; fi
}
uid_of_process() { awk '/^Uid:/ {print $3}' "/proc/$1/status"; }

# keep_for DAEMON FILE...: lets its user and no other one read files.
keep_for() {
    local user
    user=$(user_of "$1"); shift
    chown "$user:" "$@" && chmod 600 "$@"
}

# data_folder DAEMON: makes the folder of a daemon's data, for its user alone, also of data that another user left.
data_folder() {
    local folder=$STATE/data/$1 user
    user=$(user_of "$1")
    own_user "$1"
    mkdir -p "$folder"
    find "$folder" ! -user "$user" -exec chown -h "$user:" {} +
    chmod 700 "$folder"
}

# confined DAEMON COMMAND...: runs as the daemon's user, who sees this checkout's state and the cache below /run/posthouse even
# when both lie under a home folder that only root may enter. The mounts are the command's own.
confined() { own_user "$1" && sandboxed "$@"; }
start_confined() { own_user "$1" && start "$1" "${SANDBOX[@]}" "$(user_of "$1")" "$STATE" "$CACHE" "${@:2}"; }
sandboxed() { "${SANDBOX[@]}" "$(user_of "$1")" "$STATE" "$CACHE" "${@:2}"; }
SANDBOX=(unshare --mount --propagation private -- "$ROOT/scripts/local/sandbox")
IN_STATE=$RUN/state
IN_CACHE=$RUN/cache
# in_cache FOLDER: prints where a daemon sees a folder of the cache.
in_cache() { echo "$IN_CACHE/${1#"$CACHE/"}"; }

# Checkouts share the compiled third-party crates, and must not share the workspace's: cargo compares time stamps, so a
# file edited before another checkout compiled its own copy would count as compiled. A target folder for each checkout
# would compile 500 crates again; hence the workspace's own are recompiled when the checkout changes.
own_target() {
    local mark=$CARGO_TARGET_DIR/checkout
    # Of each crate in each selection of features the compiler keeps its last state, and no other program removes those that are not compiled
    # any more: tens of gigabytes after some weeks.
    find "$CARGO_TARGET_DIR"/*/incremental -mindepth 1 -maxdepth 1 -mtime +1 -exec rm -rf {} + 2> /dev/null || true
    if [ "$(cat "$mark" 2> /dev/null)" = "$ROOT" ]; then return; fi
    (cd "$ROOT" && cargo clean --quiet --locked --workspace)
    mkdir -p "$CARGO_TARGET_DIR"
    echo "$ROOT" > "$mark"
}

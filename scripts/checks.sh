# Checks, their count, and those that need no stack. Sourced after lib.sh, from the root of the checkout.
# shellcheck source=local/tools.sh
source "$ROOT/scripts/local/tools.sh"
# shellcheck source=local/app.sh
source "$ROOT/scripts/local/app.sh"
PASSED=0
FAILED=0
BROKEN=()

# Ends every run: what is broken, and the counts.
verdict() {
    if [ ${#BROKEN[@]} -gt 0 ]; then printf '\nfailed: %s\n' "${BROKEN[*]}"; fi
    echo "$PASSED passed, $FAILED failed"
    [ "$FAILED" = 0 ]
}

# count NAME PASSED FAILED BEGAN: adds a result that was counted elsewhere.
count() {
    PASSED=$((PASSED + $2))
    FAILED=$((FAILED + $3))
    if [ "$3" != 0 ]; then BROKEN+=("$1"); fi
    echo "== $1: $2 passed, $3 failed ($(seconds $(($(now_ms) - $4))))"
}

# count_run NAME BEGAN STATUS PASSED FAILED: adds the result of a run, and fails where something failed. One that ended badly without a failed test of its own
# (it does not compile, it was killed) counts as one failed.
count_run() {
    local failed=$5
    if [ "$3" != 0 ] && [ "$failed" = 0 ]; then failed=1; fi
    count "$1" "$4" "$failed" "$2"
    [ "$failed" = 0 ]
}

# check NAME COMMAND...: counts as one test.
check() {
    local name=$1 began; shift
    began=$(now_ms)
    echo "== $name"
    if "$@" 2>&1 < /dev/null; then count "$name" 1 0 "$began"; else count "$name" 0 1 "$began"; fi
}

# Those that take a second.
quick_lints() {
    check format cargo fmt --all --check
    check 'format of clients/web' web_format clients/web
    check 'format of clients/app' web_format clients/app
    check 'format of clients/console' web_format clients/console
    check 'format of clients/stomp' web_format clients/stomp
    check 'shell scripts' shell_scripts
    check words words
}

# Those that compile. Selecting the workspace resolves features as the tests do, so that nothing is compiled twice.
lints() {
    check 'derived files' derived check
    check 'described requests' described_requests
    check clippy cargo clippy --quiet --locked --workspace --all-targets -- -D warnings
    check rustdoc env RUSTDOCFLAGS='-D warnings' cargo doc --quiet --locked --workspace --no-deps --document-private-items
    check dependencies dependencies
    check 'alert rules' alert_rules
    # A commit with a tag is a release: the schemas of its records are kept with it.
    if git describe --exact-match --tags > /dev/null 2>&1; then
        check 'published schemas' cargo xtask published
    fi
}

# The crates of other platforms are checked too, and a build here has not fetched them.
dependencies() {
    cargo fetch --quiet --locked && cargo deny --offline --all-features check --show-stats bans licenses sources
}

# Every alert fires in a story, and none while all is well.
alert_rules() {
    promtool_tool && promtool check rules charts/posthouse/monitoring/rules.yaml && promtool test rules deploy/observability/rules_test.yaml
}

# Requires the stack, and the files of scripts/local. Each daemon is a user of its own that reads no other's files, etcd answers those
# who have a certificate of its authority, and no backend shows its metrics.
confinement() {
    local name pid child uid user status=0 file users=' ' expected=12
    for name in $(running_names); do
        user=$(user_of "$name")
        if [ "$user" = root ]; then continue; fi
        pid=$(pid_of "$name")
        uid=$(uid_of_process "$pid")
        if [ "$uid" != "$(id -u "$user" 2> /dev/null || true)" ]; then
            echo "$name runs as uid $uid, which is not $user"
            status=1
            continue
        fi
        for child in $(pgrep -P "$pid"); do
            # It may have ended meanwhile.
            if child=$(uid_of_process "$child" 2> /dev/null) && [ "$child" != "$uid" ]; then
                echo "$name has a process of uid $child"
                status=1
            fi
        done
        if [ "$uid" = 0 ] || [[ $users == *" $uid "* ]]; then
            echo "$name shares uid $uid"
            status=1
        fi
        users+="$uid "
        if [ -d "$STATE/data/$name" ] && [ "$(stat -c '%u %a' "$STATE/data/$name")" != "$uid 700" ]; then
            ls -ld "$STATE/data/$name"
            status=1
        fi
        # As the daemon would once it is taken over. Certificates are public; the key of accounts has two readers.
        while read -r file; do
            echo "$name reads $file"
            status=1
        done < <(sandboxed "$name" find "$IN_STATE"/{pki,secrets,conf,data,log/audit} "$IN_STATE"/{kubeconfig,stack.env} -type f -readable \
            ! -path "$IN_STATE/data/$name/*" ! -user "$uid" ! -group "$(id -g "$user")" ! -name '*.crt' ! -name '*.pub' ! -name '*.srl' 2> /dev/null || true)
    done
    read -ra users <<< "$users"
    # Six backends, four of the control plane, names and routes, and what was requested beside them.
    for name in "${OPTIONAL[@]}" "${OBSERVABILITY[@]}"; do
        if running "$name"; then expected=$((expected + 1)); fi
    done
    if [ ${#users[@]} != $expected ]; then
        echo "${#users[@]} daemons have a user of their own: $(running_names | tr '\n' ' ')"
        status=1
    fi
    if ! etcd_as etcd-client; then
        echo "etcd does not answer the API server's certificate"
        status=1
    fi
    if etcd_as admin || curl -skf $ETCD_URL/health || curl -skf $ETCD_PEER_URL/members; then
        echo "etcd answers a client without a certificate of its own authority"
        status=1
    fi
    if curl -sf -o /dev/null "http://$HOST_IP:$KEYCLOAK_MANAGEMENT_PORT/metrics"; then
        echo "Keycloak shows its metrics to every pod"
        status=1
    fi
    return $status
}

# A script has the functions of all that it sources, so a name that two files give would have the one that came last for both.
shell_scripts() {
    local files twice
    mapfile -t files < <({ git ls-files -co --exclude-standard '*.sh'; git grep -lI --untracked '^#!/usr/bin/env bash'; } | sort -u)
    shellcheck --shell=bash "${files[@]}" || return 1
    twice=$(grep -hoE '^[a-z0-9_]+\(\)' "${files[@]}" | sort | uniq -d)
    if [ -n "$twice" ]; then
        echo "defined in more than one script:" && grep -nF "$twice" "${files[@]}"
        return 1
    fi
}

# Spelling (_typos.toml), and phrases that the project's terms have replaced (docs/words.txt). A migration that ran stays as it is.
words() {
    local phrase instead status=0
    typos_tool
    typos || status=1
    while IFS=$'\t' read -r phrase instead; do
        if [[ $phrase != '#'* ]] && git grep -nIiP --untracked -e "$phrase" -- . ':!docs/words.txt' ':!*/migrations/*'; then
            echo "    say instead: $instead"
            status=1
        fi
    done < docs/words.txt
    return $status
}

# derived generate|check: what follows from the code. The descriptions of APIs come from `compact`.
# The types of clients/web come from those in turn.
derived() {
    node_is_there && cargo build --quiet --locked --workspace --bin xtask --bin compact && "$CARGO_TARGET_DIR/debug/xtask" "$1" \
        && node "$ROOT/clients/web/generate.mjs" "$1"
}

# web_format FOLDER: all clients have one formatter, and lock files that name no registry.
web_format() {
    web_tool && node "$WEB_HOME/node_modules/prettier/bin/prettier.cjs" --check "$ROOT/$1" --ignore-path "$ROOT/$1/.prettierignore" \
        && ! git grep -nI --untracked '"resolved"' -- "$1/*package-lock.json"
}

# Compiles clients/web, with its tests, into a folder that is laid out as the package is.
web_build() {
    local out=$STATE/web
    web_tool && rm -rf "$out" && mkdir -p "$out" \
        && node "$WEB_HOME/node_modules/typescript/bin/tsc" --project "$ROOT/clients/web" --typeRoots "$WEB_HOME/node_modules/@types" --outDir "$out" \
        && sed 's|\./dist/|./|g' "$ROOT/clients/web/package.json" > "$out/package.json"
}

# node_tests ARGUMENT...: runs tests of Node with a messenger in memory. Node has WebSocket by itself from 22 on.
node_tests() {
    local option=()
    node -e 'process.exit(typeof WebSocket === "function" ? 0 : 1)' 2> /dev/null || option=(--experimental-websocket)
    POSTHOUSE_COMPACT=$CARGO_TARGET_DIR/debug/compact node "${option[@]}" --test --test-timeout=120000 --test-reporter=tap "$@"
}

# count_node_tests NAME BEGAN STATUS LOG: counts what `node_tests` wrote.
count_node_tests() {
    local log=$4
    grep -E '^(not ok|ok) |error TS' "$log" || true
    count_run "$1" "$2" "$3" "$(awk '/^# pass / {n += $3} END {print n + 0}' "$log")" "$(awk '/^# (fail|cancelled) / {n += $3} END {print n + 0}' "$log")" || echo "read $log"
}

# The tests of clients/web, with a messenger in memory.
web_tests() {
    local log=$STATE/log/web.log status=0 began
    began=$(now_ms)
    echo '== web client'
    { web_build && (cd "$ROOT/clients/web" \
        && POSTHOUSE_RUST_BOT=$CARGO_TARGET_DIR/debug/examples/bot node_tests "$STATE"/web/test/*.test.js); } < /dev/null > "$log" 2>&1 || status=$?
    count_node_tests 'web client' "$began" $status "$log"
}

# Public libraries for STOMP as they are published, each with a messenger in memory, and clients/web, which is compiled by then. Both suites wait for most
# of their time.
stomp_tests() {
    local name=stomp.py log=$STATE/log/stomp-js.log status=0 began passed failed
    began=$(now_ms)
    echo '== clients of STOMP'
    begin $name stomp_py_run
    { linked_packages stomp "$ROOT/clients/stomp" && (cd "$ROOT/clients/stomp" \
        && POSTHOUSE_WEB=$STATE/web node_tests test/*.test.js); } < /dev/null > "$log" 2>&1 || status=$?
    count_node_tests @stomp/stompjs "$began" $status "$log"
    status=0 log=$STATE/log/steps/$name.log
    ended $name || status=$?
    grep -E '^(FAIL|ERROR): |^test_.* \.\.\. ' "$log" || true
    # `Ran 12 tests in 48.1s`, and `FAILED (failures=1, errors=1)` where there are any. The cases of one test fail each by itself.
    read -r passed failed < <(awk -F '[ =,)]' '
        /^Ran [0-9]+ test/ {ran += $2}
        /^FAILED \(/ {for (i = 1; i < NF; i++) if ($i ~ /(failures|errors)$/) failed += $(i + 1)}
        END {print (ran > failed ? ran - failed : 0), failed + 0}' "$log")
    count_run $name "${STEP_BEGAN[$name]}" $status "$passed" "$failed" || echo "read $log"
}

stomp_py_run() {
    stomp_py_tool && cd "$ROOT/clients/stomp/test" && POSTHOUSE_COMPACT=$CARGO_TARGET_DIR/debug/compact PYTHONPATH=$STOMP_PY_HOME \
        python3 -BW ignore -m unittest --verbose
}

# Requests made from the descriptions of the APIs, good and bad, to two tenants in memory (described.py).
described_requests() {
    local addresses=(127.0.0.1:18970 127.0.0.1:18971) address pids=() status=0
    local log=$STATE/log/described
    schemathesis_tool
    mkdir -p "$log"
    for address in "${addresses[@]}"; do
        if port_open 127.0.0.1 "${address##*:}"; then
            echo "another process holds $address, perhaps of a run that was interrupted: end it and run the command again"
            return 1
        fi
    done
    for address in "${addresses[@]}"; do
        "$CARGO_TARGET_DIR/debug/compact" dev --http-addr "$address" > "$log/compact-${address##*:}.log" 2>&1 &
        pids+=($!)
    done
    for address in "${addresses[@]}"; do
        curl -sf --retry 20 --retry-connrefused --retry-delay 1 -o "$log/docs.html" "http://$address/docs" || status=1
    done
    if [ $status != 0 ]; then
        echo "a messenger did not start: read $log/compact-*.log"
    else
        described "$log" 50 "http://${addresses[0]}" "http://${addresses[1]}" "$ROOT"/docs/api/*.openapi.json || status=1
    fi
    kill "${pids[@]}"
    return $status
}

# described FOLDER EXAMPLES URL URL DOCUMENT...
described() { PYTHONPATH=$SCHEMATHESIS_HOME python3 "$ROOT/scripts/local/described.py" "$@"; }

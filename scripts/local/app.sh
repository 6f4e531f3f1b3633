# The web client: its tools, its build, which the service web embeds, and its tests.
APP=$ROOT/clients/app
APP_HOME=$CACHE/tools/app-$(cat "$APP"/package{,-lock}.json | sha256sum | head -c 12)
APP_RESULT=$STATE/app-tests.json

# npm_packages FOLDER HOME: the packages of a lock file, in the cache, linked where programs look for them. What a developer has installed
# there stays.
npm_packages() {
    local folder=$1 home=$2
    if [ ! -d "$home" ]; then
        command -v npm > /dev/null || { echo "npm is missing: install Node 22"; return 1; }
        rm -rf "$home.part" && mkdir -p "$home.part"
        cp "$folder"/{package.json,package-lock.json,.npmrc} "$home.part"
        npm --prefix "$home.part" ci --ignore-scripts --no-audit --no-fund --loglevel error
        mv "$home.part" "$home"
    fi
    if [ -L "$folder/node_modules" ] || [ ! -e "$folder/node_modules" ]; then ln -sfn "$home/node_modules" "$folder/node_modules"; fi
}

app_tool() { npm_packages "$APP" "$APP_HOME"; }

# A hash of all that goes into the build.
app_sources() {
    (cd "$ROOT" && git ls-files -co --exclude-standard clients/app clients/web/src ':!clients/app/e2e' ':!clients/app/test' |
        sort | xargs -d '\n' sha256sum | sha256sum | head -c 16)
}

# Builds what has changed. Unchanged it takes no time, and the service web is not compiled again. Without Node the service has a page that
# says so, and the rest of the stack misses nothing.
app_build() {
    local sources
    if ! command -v npm > /dev/null; then
        echo 'npm is missing: the web client is not built'
        return
    fi
    sources=$(app_sources)
    if [ "$(cat "$APP/dist/.sources" 2> /dev/null)" = "$sources" ]; then return; fi
    app_tool && (cd "$APP" && node node_modules/vite/bin/vite.js build --logLevel warn) && echo "$sources" > "$APP/dist/.sources"
}

# Types and tests. They need neither the stack nor a compiled service, and run beside tests that wait most of the time.
app_tests_run() {
    rm -f "$APP_RESULT"
    app_tool && cd "$APP" && nice node node_modules/typescript/bin/tsc && nice node node_modules/typescript/bin/tsc -p src/worker \
        && nice node node_modules/vitest/vitest.mjs run --reporter=default --reporter=json --outputFile.json="$APP_RESULT"
}

# app_tests_counted STEP: waits for them, and counts them.
app_tests_counted() {
    local status=0 began=${STEP_BEGAN[$1]} passed=0 failed=0
    wait "${STEP_PID[$1]}" || status=$?
    unset "STEP_PID[$1]"
    if [ -f "$APP_RESULT" ]; then
        read -r passed failed < <(node -p 'const r = JSON.parse(require("fs").readFileSync(process.argv[1])); r.numPassedTests + " " + r.numFailedTests' "$APP_RESULT")
    fi
    if [ $status != 0 ] && [ "$failed" = 0 ]; then failed=1; fi
    if [ "$failed" != 0 ]; then cat "$STATE/log/steps/${1// /-}.log"; fi
    count "$1" "$passed" "$failed" "$began"
}

# The web client and the console: their tools, their builds, which the service web and the operator embed, and their tests. Source it after
# tools.sh.
APP=$ROOT/clients/app
CONSOLE=$ROOT/clients/console

# linked_packages NAME FOLDER: the packages of a folder, linked where programs look for them. What a developer has installed there stays.
linked_packages() {
    local folder=$2 home
    home=$(npm_home "$1" "$2")
    npm_packages "$folder" "$home" || return
    if [ -L "$folder/node_modules" ] || [ ! -e "$folder/node_modules" ]; then ln -sfn "$home/node_modules" "$folder/node_modules"; fi
}

# client_tool FOLDER: the packages of a client.
client_tool() { linked_packages app "$1"; }

# client_build FOLDER PATHSPEC...: builds a client when what goes into its build has changed. Unchanged it takes no time, and what embeds it is
# not compiled again.
client_build() {
    local folder=$1 sources; shift
    sources=$(cd "$ROOT" && git ls-files -co --exclude-standard "$@" | sort | xargs -d '\n' sha256sum | sha256sum | head -c 16)
    if [ "$(cat "$folder/dist/.sources" 2> /dev/null)" = "$sources" ]; then return; fi
    client_tool "$folder" && (cd "$folder" && node node_modules/vite/bin/vite.js build --logLevel warn) && echo "$sources" > "$folder/dist/.sources"
}

app_build() {
    client_build "$APP" clients/app clients/web/src ':!clients/app/e2e' ':!clients/app/test' \
        && client_build "$CONSOLE" clients/console clients/app/{src/shared,src/styles/base.css,scripts/compressed.ts} examples/tenants ':!clients/console/test'
}

client_result() { echo "$STATE/$(basename "$1")-tests.json"; }

# client_tests FOLDER: types and tests of a client.
client_tests() {
    rm -f "$(client_result "$1")"
    client_tool "$1" && cd "$1" && nice npm run --silent check \
        && nice node node_modules/vitest/vitest.mjs run --reporter=default --reporter=json --outputFile.json="$(client_result "$1")"
}

# The packages of the stories, which a build needs none of.
stories_tool() { linked_packages app-e2e "$APP/e2e"; }

# Types of the stories. The packages are those that they run with: the types of Playwright and Lighthouse come in none of their own. No browser is
# fetched for it, and a machine fetches them once.
stories_types() { client_tool "$APP" && stories_tool && nice node "$APP/node_modules/typescript/bin/tsc" --project "$APP/e2e"; }

# They need neither the stack nor a compiled service. One client's failure hides no other's.
app_tests_run() {
    local status=0
    (client_tests "$APP") || status=1
    (client_tests "$CONSOLE") || status=1
    (stories_types) || status=1
    return $status
}

# app_tests_counted STEP: waits for them, and counts them.
app_tests_counted() {
    local status=0 began=${STEP_BEGAN[$1]} passed=0 failed=0 folder more less
    ended "$1" || status=$?
    for folder in "$APP" "$CONSOLE"; do
        if [ -f "$(client_result "$folder")" ]; then
            read -r more less < <(node -p 'const r = JSON.parse(require("fs").readFileSync(process.argv[1])); r.numPassedTests + " " + r.numFailedTests' "$(client_result "$folder")")
            passed=$((passed + more)) failed=$((failed + less))
        fi
    done
    count_run "$1" "$began" $status "$passed" "$failed" || cat "$STATE/log/steps/${1// /-}.log"
}

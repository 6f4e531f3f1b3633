# Programs that tests and lints need beside the Rust toolchain, in the cache by version. A folder appears only when it is whole.
TOOLS=$CACHE/tools
NEXTEST_HOME=$TOOLS/cargo-nextest-$NEXTEST
DENY_HOME=$TOOLS/cargo-deny-$CARGO_DENY
TYPOS_HOME=$TOOLS/typos-$TYPOS
# With all it needs, in the versions of schemathesis.txt.
SCHEMATHESIS_HOME=$TOOLS/schemathesis-$(sha256sum < "$ROOT/scripts/local/schemathesis.txt" | head -c 12)
# The compiler and the formatter of clients/web, in the versions of its lock file.
WEB_HOME=$TOOLS/web-$(cat "$ROOT"/clients/web/package{,-lock}.json | sha256sum | head -c 12)
PATH=$NEXTEST_HOME/bin:$DENY_HOME/bin:$TYPOS_HOME/bin:$PATH

# cargo_tool FOLDER CRATE VERSION [OPTION...]: compiled without optimisation, since each run of them is short.
cargo_tool() {
    local folder=$1 crate=$2 version=$3; shift 3
    if [ -d "$folder" ]; then return; fi
    rm -rf "$folder.part"
    CARGO_TARGET_DIR=$folder.part/target CARGO_PROFILE_DEV_DEBUG=0 CARGO_INCREMENTAL=0 \
        cargo install --locked --debug --root "$folder.part" --version "$version" "$@" "$crate"
    rm -rf "$folder.part/target"
    mv "$folder.part" "$folder"
}

tools() {
    cargo_tool "$NEXTEST_HOME" cargo-nextest "$NEXTEST" --no-default-features --features default-no-update
    cargo_tool "$DENY_HOME" cargo-deny "$CARGO_DENY"
}

# packages FOLDER ARGUMENT...: installs Python packages, and nothing that they ask for beside them.
packages() {
    local folder=$1; shift
    python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --no-deps --target "$folder" "$@"
}

wheel() {
    local folder=$1; shift
    if [ -d "$folder" ]; then return; fi
    rm -rf "$folder.part" && mkdir -p "$TOOLS"
    packages "$folder.part" "$@"
    mv "$folder.part" "$folder"
}

# The wheel holds the program; compiling it would take minutes.
typos_tool() { wheel "$TYPOS_HOME" "typos==$TYPOS"; }

schemathesis_tool() { wheel "$SCHEMATHESIS_HOME" -r "$ROOT/scripts/local/schemathesis.txt"; }

web_tool() {
    if [ -d "$WEB_HOME" ]; then return; fi
    command -v npm > /dev/null || { echo "npm is missing: install Node 22"; return 1; }
    rm -rf "$WEB_HOME.part" && mkdir -p "$WEB_HOME.part"
    cp "$ROOT"/clients/web/{package.json,package-lock.json,.npmrc} "$WEB_HOME.part"
    npm --prefix "$WEB_HOME.part" ci --ignore-scripts --no-audit --no-fund --loglevel error
    mv "$WEB_HOME.part" "$WEB_HOME"
}

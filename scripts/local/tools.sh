# Programs that tests and lints need beside the Rust toolchain, in the cache by version. A folder appears only when it is whole.
TOOLS=$CACHE/tools
NEXTEST_HOME=$TOOLS/cargo-nextest-$NEXTEST
DENY_HOME=$TOOLS/cargo-deny-$CARGO_DENY
TYPOS_HOME=$TOOLS/typos-$TYPOS
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

# The wheel holds the program; compiling it would take minutes.
typos_tool() {
    if [ -d "$TYPOS_HOME" ]; then return; fi
    rm -rf "$TYPOS_HOME.part" && mkdir -p "$TOOLS"
    python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --no-deps --target "$TYPOS_HOME.part" "typos==$TYPOS"
    mv "$TYPOS_HOME.part" "$TYPOS_HOME"
}

# Programs that tests and lints need beside the Rust toolchain, in the cache by version. A folder appears only when it is whole.
TOOLS=$CACHE/tools
NEXTEST_HOME=$TOOLS/cargo-nextest-$NEXTEST
DENY_HOME=$TOOLS/cargo-deny-$CARGO_DENY
TYPOS_HOME=$TOOLS/typos-$TYPOS
PROMTOOL_HOME=$TOOLS/promtool-debian-$(. /etc/os-release && echo "${VERSION_ID:-testing}")
# With all it needs, in the versions of schemathesis.txt.
SCHEMATHESIS_HOME=$TOOLS/schemathesis-$(sha256sum < "$ROOT/scripts/local/schemathesis.txt" | head -c 12)
STOMP_PY_HOME=$TOOLS/stomp-py-$(sha256sum < "$ROOT/clients/stomp/requirements.txt" | head -c 12)
# npm_home NAME FOLDER: prints where the packages of a folder are, in the versions of its lock file.
npm_home() { echo "$TOOLS/$1-$(cat "$2"/package{,-lock}.json | sha256sum | head -c 12)"; }
# The compiler and the formatter of clients/web.
WEB_HOME=$(npm_home web "$ROOT/clients/web")
PATH=$NEXTEST_HOME/bin:$DENY_HOME/bin:$TYPOS_HOME/bin:$PROMTOOL_HOME:$PATH

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

# Go's programs are built without debug information, which the linker would drop anyway, and without inlining, which takes the compiler two fifths of its
# time.
GO_OPTIONS=(-v -trimpath -gcflags='all=-dwarf=false -l')

# go_build MODULE PROGRAM PACKAGE LINKER-FLAGS [OPTION...]: with the versions that the module in a folder names.
go_build() {
    local module=$1 program=$2 package=$3 flags=$4; shift 4
    (cd "$module" && CGO_ENABLED=0 go build "${GO_OPTIONS[@]}" -buildvcs=false -ldflags="-s -w $flags" -o "$program" "$@" "$package")
}

# go_program FOLDER PACKAGE@VERSION [OPTION...]: a program of a module that names the versions of all it needs.
go_program() {
    local folder=$1 package=$2; shift 2
    if [ -d "$folder" ]; then return; fi
    rm -rf "$folder.part" && mkdir -p "$(dirname "$folder")"
    CGO_ENABLED=0 GOBIN=$folder.part go install "${GO_OPTIONS[@]}" -ldflags='-s -w' "$@" "$package"
    mv "$folder.part" "$folder"
}

# Debian's, without the rest of its package: compiling the newest one takes longer than all lints, and the language of rules and their stories is the same.
promtool_tool() {
    if [ -d "$PROMTOOL_HOME" ]; then return; fi
    local part=$PROMTOOL_HOME.part
    rm -rf "$part" && mkdir -p "$part/unpacked" \
        && (cd "$part" && package_file prometheus && dpkg -x prometheus_*.deb unpacked) \
        && mv "$part/unpacked/usr/bin/promtool" "$part" \
        && rm -r "$part/unpacked" "$part"/prometheus_*.deb \
        && mv "$part" "$PROMTOOL_HOME"
}

# package_file PACKAGE: fetches the file of a package, and the lists of packages before where there are none.
package_file() { apt-get -qq download "$1" 2> /dev/null || { apt-get -qq update && apt-get -qq download "$1"; }; }

tools() {
    cargo_tool "$NEXTEST_HOME" cargo-nextest "$NEXTEST" --no-default-features --features default-no-update
    cargo_tool "$DENY_HOME" cargo-deny "$CARGO_DENY"
}

# packages FOLDER ARGUMENT...: installs Python packages, and nothing that they ask for beside them.
packages() {
    local folder=$1; shift
    python3 -m pip --version > /dev/null 2>&1 || { echo 'pip is missing: apt-get install python3-pip'; return 1; }
    python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --no-deps --target "$folder" "$@"
}

# A chain, as below.
wheel() {
    local folder=$1; shift
    if [ -d "$folder" ]; then return; fi
    rm -rf "$folder.part" && mkdir -p "$TOOLS" && packages "$folder.part" "$@" && mv "$folder.part" "$folder"
}

# The wheel holds the program; compiling it would take minutes.
typos_tool() { wheel "$TYPOS_HOME" "typos==$TYPOS"; }

schemathesis_tool() { wheel "$SCHEMATHESIS_HOME" -r "$ROOT/scripts/local/schemathesis.txt"; }

stomp_py_tool() { wheel "$STOMP_PY_HOME" --require-hashes -r "$ROOT/clients/stomp/requirements.txt"; }

# Reports whether there is Node with npm as the clients' tools want it (`engines` of Vite), and says what to do where there is not.
node_is_there() {
    local version
    if ! command -v node > /dev/null || ! command -v npm > /dev/null; then
        echo 'Node with npm is missing: install Node 22 or newer'
        return 1
    fi
    version=$(node --version)
    version=${version#v}
    if is_at_least 22.12 "$version" || { [ "${version%%.*}" = 20 ] && is_at_least 20.19 "$version"; }; then return; fi
    echo "Node $version does not run the clients' tools: install Node 22.12 or newer (20.19 does, too); Debian 12 has 18"
    return 1
}

# npm_packages FOLDER HOME: the packages of a folder's lock file. A chain, since callers go on after a failure: packages that are not whole never
# become a home.
npm_packages() {
    local folder=$1 home=$2
    # Also where the packages are: what is run of them wants it, too.
    node_is_there || return
    if [ -d "$home" ]; then return; fi
    rm -rf "$home.part" && mkdir -p "$home.part" \
        && cp "$folder"/{package.json,package-lock.json,.npmrc} "$home.part" \
        && npm --prefix "$home.part" ci --ignore-scripts --no-audit --no-fund --loglevel error \
        && mv "$home.part" "$home"
}

web_tool() { npm_packages "$ROOT/clients/web" "$WEB_HOME"; }

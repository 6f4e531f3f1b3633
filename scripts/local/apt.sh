# Debian packages the stack needs.
PACKAGES=(containerd runc containernetworking-plugins buildah postgresql-15 postgresql-client-15 redis-server
    iptables iproute2 conntrack openssl unzip jq curl ca-certificates kmod util-linux procps
    build-essential cmake pkg-config libssl-dev zlib1g-dev shellcheck)
# A machine may have them in another way. Not `java`: where only that is, no program can be compiled, as OpenSearch's is.
COMMANDS=(javac:openjdk-17-jdk-headless mvn:maven pip3:python3-pip git:git)

apt_packages() {
    local missing=() package tool
    for package in "${PACKAGES[@]}"; do
        dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
    done
    for tool in "${COMMANDS[@]}"; do
        command -v "${tool%%:*}" > /dev/null || missing+=("${tool##*:}")
    done
    if [ ${#missing[@]} = 0 ]; then return; fi
    echo "installing ${missing[*]}"
    local policy=/usr/sbin/policy-rc.d
    # The packages' own services must not start: ours have their own configuration, ports and data.
    if [ ! -e $policy ]; then
        printf '#!/bin/sh\nexit 101\n' > $policy
        chmod +x $policy
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    fi
    apt-get -qq update
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
}

# What comes from no Debian package: those of Debian 12 are older than what is compiled here.
toolchains() {
    local least version
    command -v cargo > /dev/null || die "cargo is missing: install Rust, by rustup"
    least=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' "$ROOT/Cargo.toml")
    version=$(cargo --version | cut -d ' ' -f 2)
    is_at_least "$least" "$version" || die "cargo $version is too old: install Rust $least or newer, by \`rustup update\`"
    go_for "$ROOT/deploy/local/k8s" 'the local stack'
}

# go_for MODULE WHAT: ends the script where Go, or the one that it fetches by itself from 1.21 on, is older than a module wants it.
go_for() {
    local least version
    command -v go > /dev/null || die "go is missing: install Go $(go_least "$1") or newer, which $2 needs"
    least=$(go_least "$1")
    version=$(cd "$1" && go env GOVERSION 2> /dev/null) || version=$(GOTOOLCHAIN=local go version | cut -d ' ' -f 3)
    version=${version#go}
    is_at_least "$least" "${version%% *}" || die "Go ${version%% *} is too old: install Go $least or newer, which $2 needs"
}
go_least() { sed -n 's/^go //p' "$1/go.mod"; }

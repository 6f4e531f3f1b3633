# Debian packages the stack needs.
PACKAGES=(containerd runc containernetworking-plugins buildah postgresql-15 postgresql-client-15 redis-server
    iptables iproute2 conntrack openssl unzip jq curl ca-certificates kmod util-linux procps
    build-essential cmake pkg-config libssl-dev zlib1g-dev shellcheck)
COMMANDS=(java:openjdk-17-jdk-headless mvn:maven pip3:python3-pip)

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

toolchains() {
    command -v cargo > /dev/null || die "cargo is missing: install Rust (see rust-version in Cargo.toml)"
    command -v go > /dev/null || die "go is missing: install Go 1.25 or newer"
}

# The Autobahn test suite is a program of Python 2: an interpreter from the last Debian release that had one, unpacked beside Python
# packages of its time. Every file is pinned by its hash, and the folder by the hashes. Source it after tools.sh.
AUTOBAHN_HOME=$TOOLS/autobahn-$(cat "$ROOT"/scripts/local/autobahn{.sh,.txt} | sha256sum | head -c 12)
PATH=$AUTOBAHN_HOME/bin:$PATH

PYTHON2=(
    p/python2.7/python2.7-minimal_2.7.18-8+deb11u1_amd64.deb 44f0cdc1a343303d31c55fcb3a6402cfe326adf749ec30e375e6e0c0c5f7c1f7
    p/python2.7/libpython2.7-minimal_2.7.18-8+deb11u1_amd64.deb 85833c92314011b89bbead6f9a5a7a360b5ee4f9b95e001225afead4ebf9f7d3
    p/python2.7/libpython2.7-stdlib_2.7.18-8+deb11u1_amd64.deb 3e627d6d8992b853e000b8a4c09dda613fb767cdb711a2eac20ebc9f867b593c
    o/openssl/libssl1.1_1.1.1w-0+deb11u1_amd64.deb aadf8b4b197335645b230c2839b4517aa444fd2e8f434e5438c48a18857988f7
    libf/libffi/libffi7_3.3-6_amd64.deb 30ca89bfddae5fa6e0a2a044f22b6e50cd17c4bc6bc850c579819aeab7101f0f
)
# The one package of which there is no wheel.
AUTOBAHN_SOURCE='autobahn==0.10.9 --hash=sha256:3fecc1e2a26a0421128ddcfb4e577f0bc669dd65d0e0fdad1c773965cbcef75a'

autobahn_tool() {
    local part=$AUTOBAHN_HOME.part i
    if [ -d "$AUTOBAHN_HOME" ]; then return; fi
    rm -rf "$part" && mkdir -p "$part/bin" "$part/lib"
    for ((i = 0; i < ${#PYTHON2[@]}; i += 2)); do
        debian_file "${PYTHON2[i]}" "${PYTHON2[i + 1]}" "$part/package.deb"
        dpkg-deb -x "$part/package.deb" "$part"
        rm "$part/package.deb"
    done
    packages "$part/lib" --no-compile --require-hashes -r "$ROOT/scripts/local/autobahn.txt" --only-binary :all: \
        --ignore-requires-python --python-version 2.7 --implementation cp --abi cp27mu --abi none --platform manylinux1_x86_64 --platform any
    # It goes to a folder of its own, because pip replaces none that is there: both have some of twisted.
    packages "$part/source" --no-compile --require-hashes -r /dev/stdin <<< "$AUTOBAHN_SOURCE"
    cp -r "$part/source/." "$part/lib" && rm -r "$part/source"
    touch "$part/lib/zope/__init__.py"
    cat > "$part/bin/wstest" << 'END'
#!/bin/sh
home=$(dirname "$(dirname "$(readlink -f "$0")")")
export LD_LIBRARY_PATH="$home/usr/lib/x86_64-linux-gnu" PYTHONHOME="$home/usr" PYTHONPATH="$home/lib" PYTHONDONTWRITEBYTECODE=1
exec "$home/usr/bin/python2.7" -W ignore -c 'import txaio; txaio.use_twisted(); from autobahntestsuite.wstest import run; run()' "$@"
END
    chmod +x "$part/bin/wstest"
    mv "$part" "$AUTOBAHN_HOME"
}

# debian_file PATH HASH FILE: downloads a package from where this machine installs its own from.
debian_file() {
    local mirror mirrors
    mirrors=$(grep -rhsvE '^ *#' /etc/apt/sources.list /etc/apt/sources.list.d | grep -oE 'https?://[^] ]+' | sort -u) || true
    for mirror in $mirrors; do
        if /usr/lib/apt/apt-helper -qq -o APT::Sandbox::User=root download-file "${mirror%/}/pool/main/$1" "$3" "SHA256:$2"; then return; fi
    done
    die "no mirror of this machine has $1"
}

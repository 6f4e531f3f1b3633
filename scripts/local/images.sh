# Container images without a registry: built by buildah from the one Dockerfile, imported into containerd.
BINARIES=(operator "${SERVICES[@]}" compact)
# What a glibc program with TLS needs, and no shell.
BASE_PACKAGES=(base-files ca-certificates libc6 libgcc-s1 libssl3 netbase tzdata zlib1g)
BASE_HOME=$CACHE/base/bookworm-1

buildah() {
    BUILDAH_ISOLATION=chroot command buildah --root "$CACHE/buildah" --runroot $RUN/buildah --storage-driver overlay "$@"
}

# build_image NAME DOCKERFILE CONTEXT [BUILD-OPTION...]: builds and imports one image.
build_image() {
    local name=$1 dockerfile=$2 context=$3 archive; shift 3
    archive=$(mktemp --tmpdir="$STATE" image.XXXXXX)
    rm "$archive"
    buildah bud -q --layers=false -t "$name" -f "$dockerfile" "$@" "$context"
    buildah push -q "$name" "docker-archive:$archive:$name"
    ctr images import "$archive"
    rm "$archive"
}

# The root of a base image, from Debian packages; the bundle of authorities is made by a package's script, so the
# host's is copied.
base_root() {
    local part=$BASE_HOME.part package
    if [ -d "$BASE_HOME" ]; then return; fi
    rm -rf "$part" && mkdir -p "$part/packages" "$part/root"
    cd "$part/packages"
    apt-get download -q -o APT::Sandbox::User=root "${BASE_PACKAGES[@]}" ||
        { apt-get -qq update && apt-get download -q -o APT::Sandbox::User=root "${BASE_PACKAGES[@]}"; }
    for package in *.deb; do dpkg -x "$package" "$part/root"; done
    cd "$ROOT"
    rm -rf "$part/packages" "$part"/root/usr/share/{doc,man,locale,lintian,bug}
    mkdir -p "$part/root/etc/ssl/certs" "$part/root/tmp"
    chmod 1777 "$part/root/tmp"
    cp -L /etc/ssl/certs/ca-certificates.crt "$part/root/etc/ssl/certs/"
    printf 'root:x:0:0:root:/:/none\nnonroot:x:65532:65532:nonroot:/:/none\n' > "$part/root/etc/passwd"
    printf 'root:x:0:\nnonroot:x:65532:\n' > "$part/root/etc/group"
    printf 'FROM scratch\nCOPY root /\n' > "$part/Dockerfile"
    mv "$part" "$BASE_HOME"
}

# Stripped copies of the binaries, which are the context of every image.
IMAGE_STAGE=$STATE/images
images_stage() {
    local binary
    mkdir -p "$IMAGE_STAGE"
    for binary in "${BINARIES[@]}"; do
        strip -o "$IMAGE_STAGE/$binary" "$BIN/$binary"
    done
}

# A hash of all that goes into the images: the same binaries are never imported twice, changed ones always are.
images_tag() { (cd "$IMAGE_STAGE" && cat "${BINARIES[@]}" "$ROOT/Dockerfile" | sha256sum | cut -c1-12); }

# Builds and imports the images of all binaries; their tag and profile are left in .local/image-tag and .local/image-profile.
images_up() {
    local binary tag
    images_stage
    tag=$(images_tag)
    base_root
    if ! buildah images -q localhost/posthouse-base:"${BASE_HOME##*/}" > /dev/null 2>&1; then
        buildah bud -q -t localhost/posthouse-base:"${BASE_HOME##*/}" "$BASE_HOME"
    fi
    for binary in "${BINARIES[@]}"; do
        if ! ctr images ls -q | grep -qx "docker.io/posthouse/$binary:$tag"; then
            build_image "docker.io/posthouse/$binary:$tag" "$ROOT/Dockerfile" "$IMAGE_STAGE" \
                --build-arg BASE=localhost/posthouse-base:"${BASE_HOME##*/}" --build-arg "BINARY=$binary"
        fi
    done
    echo "$tag" > "$STATE/image-tag"
    echo "$PROFILE" > "$STATE/image-profile"
    images_prune "$tag"
}

# images_prune TAG: removes images of earlier builds that no container uses any more.
images_prune() {
    local used name
    used=$(ctr containers ls | awk '{print $2}')
    for name in $(ctr images ls -q | grep '^docker.io/posthouse/' | grep -v ":$1\$"); do
        grep -qxF "$name" <<< "$used" || ctr images rm "$name"
    done
    # The kubelet's side of containerd keeps each image by its id too.
    for name in $(ctr images ls | awk '$1 !~ /^sha256:/ {named[$3]} {digest[$1] = $3}
        END {for (name in digest) if (!(digest[name] in named)) print name}'); do
        ctr images rm "$name"
    done
    for name in $(buildah images --format '{{.Name}}:{{.Tag}}' | grep '/posthouse/' | grep -v ":$1\$"); do
        buildah rmi "$name"
    done
}

# The cluster's Go programs, built once into the cache. A folder appears only when it is whole.

# One program for Kubernetes, etcd, CoreDNS and kubectl (deploy/local/k8s), and helm from the same modules.
K8S_SOURCE=$ROOT/deploy/local/k8s
K8S=$CACHE/k8s/$KUBERNETES-$(cat "$K8S_SOURCE"/*.go "$K8S_SOURCE"/go.* | sha256sum | cut -c1-12)
TRAEFIK_HOME=$CACHE/traefik/$TRAEFIK

build_kubernetes() {
    local part=$K8S.part name minor version=k8s.io/component-base/version helm=helm.sh/helm/v3/pkg
    if [ -d "$K8S" ]; then return; fi
    rm -rf "$part" && mkdir -p "$part"
    minor=$(cut -d. -f2 <<< "$KUBERNETES")
    cd "$K8S_SOURCE"
    CGO_ENABLED=0 go build -v -trimpath -buildvcs=false -o "$part/k8s" -ldflags="-s -w -X $version.gitVersion=$KUBERNETES \
        -X $version.gitMajor=1 -X $version.gitMinor=$minor" .
    CGO_ENABLED=0 go build -v -trimpath -buildvcs=false -o "$part/helm" -ldflags="-s -w -X $helm/chartutil.k8sVersionMajor=1 \
        -X $helm/chartutil.k8sVersionMinor=$minor -X $helm/lint/rules.k8sVersionMajor=1 -X $helm/lint/rules.k8sVersionMinor=$minor" helm.sh/helm/v3/cmd/helm
    for name in etcd kube-apiserver kube-controller-manager kube-scheduler kube-proxy kubelet kubectl coredns; do
        ln -s k8s "$part/$name"
    done
    mv "$part" "$K8S"
}

# Traefik's go.mod has replace lines, which `go install` refuses; so its module is copied and built in place.
build_traefik() {
    local part=$TRAEFIK_HOME.part source
    if [ -d "$TRAEFIK_HOME" ]; then return; fi
    rm -rf "$part" && mkdir -p "$part"
    source=$(cd "$part" && GOFLAGS=-mod=mod go mod download -json "github.com/traefik/traefik/v3@$TRAEFIK" | jq -er .Dir)
    cp -r "$source" "$part/source"
    chmod -R u+w "$part/source"
    (cd "$part/source" && CGO_ENABLED=0 go build -v -trimpath -buildvcs=false -ldflags='-s -w' -o "$part/traefik" ./cmd/traefik)
    cp "$part/source/docs/content/reference/dynamic-configuration/kubernetes-crd-definition-v1.yml" "$part/crds.yaml"
    rm -rf "$part/source"
    mv "$part" "$TRAEFIK_HOME"
}

builds_begin() {
    begin 'build kubernetes' build_kubernetes
    begin 'build traefik' build_traefik
}
builds_finish() { finish 'build kubernetes' 'build traefik'; }

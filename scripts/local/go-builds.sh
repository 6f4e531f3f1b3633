# The cluster's Go programs, built once into the cache. A folder appears only when it is whole. They are built by go_build of tools.sh.

# One module names the versions of all (deploy/local/k8s), so that what they share is compiled once: Kubernetes, etcd, CoreDNS
# and kubectl in one program, helm and Traefik beside it.
K8S_SOURCE=$ROOT/deploy/local/k8s
K8S=$CACHE/k8s/$KUBERNETES-$(cat "$K8S_SOURCE"/*.go "$K8S_SOURCE"/go.* | sha256sum | cut -c1-12)
TRAEFIK_SOURCE=$ROOT/deploy/local/traefik
TRAEFIK_HOME=$CACHE/traefik/$TRAEFIK-$(find "$TRAEFIK_SOURCE" -name '*.go' | sort | xargs cat "$K8S_SOURCE"/go.* | sha256sum | cut -c1-12)

# What `make bench` measures the gateway beside. Its module names the versions.
CENTRIFUGE_SOURCE=$ROOT/services/gateway/benches/fanout/centrifuge
CENTRIFUGE=$CACHE/centrifuge/$(sed -n 's|.*centrifugal/centrifuge \(v.*\)|\1|p' "$CENTRIFUGE_SOURCE/go.mod")-$(cat "$CENTRIFUGE_SOURCE"/*.go "$CENTRIFUGE_SOURCE"/go.* | sha256sum | cut -c1-12)

build_kubernetes() {
    local part=$K8S.part name minor version=k8s.io/component-base/version helm=helm.sh/helm/v3/pkg
    if [ -d "$K8S" ]; then return; fi
    rm -rf "$part" && mkdir -p "$part"
    minor=$(cut -d. -f2 <<< "$KUBERNETES")
    go_build "$K8S_SOURCE" "$part/k8s" . "-X $version.gitVersion=$KUBERNETES -X $version.gitMajor=1 -X $version.gitMinor=$minor"
    go_build "$K8S_SOURCE" "$part/helm" helm.sh/helm/v3/cmd/helm "-X $helm/chartutil.k8sVersionMajor=1 -X $helm/chartutil.k8sVersionMinor=$minor \
        -X $helm/lint/rules.k8sVersionMajor=1 -X $helm/lint/rules.k8sVersionMinor=$minor"
    for name in etcd kube-apiserver kube-controller-manager kube-scheduler kube-proxy kubelet kubectl coredns; do
        ln -s k8s "$part/$name"
    done
    mv "$part" "$K8S"
}

# Traefik without the clients of 100 DNS companies and of the systems that it could take routes from beside Kubernetes: they
# are three quarters of what there is to compile.
build_traefik() {
    local part=$TRAEFIK_HOME.part
    if [ -d "$TRAEFIK_HOME" ]; then return; fi
    rm -rf "$part" && mkdir -p "$part"
    cp "$K8S_SOURCE"/go.{mod,sum} "$part"
    go_module_without "$part" traefik github.com/traefik/traefik/v3
    go_module_without "$part" lego github.com/go-acme/lego/v4
    go_build "$K8S_SOURCE" "$part/traefik" github.com/traefik/traefik/v3/cmd/traefik \
        "-X github.com/traefik/traefik/v3/pkg/version.Version=$TRAEFIK" -modfile="$part/go.mod"
    cp "$part/source/traefik/docs/content/reference/dynamic-configuration/kubernetes-crd-definition-v1.yml" "$part/crds.yaml"
    rm -rf "$part/source" "$part"/go.{mod,sum}
    mv "$part" "$TRAEFIK_HOME"
}

# As it is deployed: whatever the compiler makes faster.
build_centrifuge() {
    local part=$CENTRIFUGE.part
    if [ -d "$CENTRIFUGE" ]; then return; fi
    rm -rf "$part" && mkdir -p "$part"
    (cd "$CENTRIFUGE_SOURCE" && CGO_ENABLED=0 go build -trimpath -buildvcs=false -o "$part/centrifuge" .)
    mv "$part" "$CENTRIFUGE"
}

# go_module_without FOLDER NAME MODULE: makes FOLDER/go.mod use a copy of the module in which every package that lies below
# deploy/local/traefik/NAME is replaced by what lies there.
go_module_without() {
    local part=$1 name=$2 module=$3 copy=$1/source/$2 source package
    source=$(cd "$K8S_SOURCE" && go mod download -json "$module" | jq -er .Dir)
    mkdir -p "$part/source"
    cp -r "$source" "$copy"
    chmod -R u+w "$copy"
    for package in $(cd "$TRAEFIK_SOURCE/$name" && find . -name '*.go' -printf '%h\n'); do
        rm -rf "${copy:?}/$package"
        cp -r "$TRAEFIK_SOURCE/$name/$package" "$copy/$package"
    done
    go mod edit -replace "$module=$copy" "$part/go.mod"
}

# The rest is begun by `cluster_up`.
builds_begin() { begin 'build kubernetes' build_kubernetes; }

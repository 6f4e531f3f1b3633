# The stack on kind. What differs from the native one: where the backends run, and how images get to the node.
KIND_VERSION=v0.33.0
KIND=$CACHE/kind/$KIND_VERSION/kind

kind_program() { [ -x "$KIND" ] || GOBIN=$(dirname "$KIND") go install "sigs.k8s.io/kind@$KIND_VERSION"; }

# Those that the cluster has for the Traefik of charts/posthouse-backends: the newest of its line in the module proxy.
TRAEFIK_CRDS=v3.7.13
traefik_crds() {
    local module
    module=$(cd "$K8S_SOURCE" && go mod download -json "github.com/traefik/traefik/v3@$TRAEFIK_CRDS" | jq -er .Dir)
    cat "$module/docs/content/reference/dynamic-configuration/kubernetes-crd-definition-v1.yml"
}

kind_cluster() {
    kind_program
    "$KIND" get clusters 2> /dev/null | grep -qx posthouse || "$KIND" create cluster --config "$ROOT/kind-config.yaml" --wait 120s
    "$KIND" export kubeconfig --name posthouse
}

kind_backends() {
    apply -f "$ROOT/deploy/local/namespace.yaml"
    traefik_crds | apply -f -
    crds_up
    helm upgrade --install posthouse-backends "$ROOT/charts/posthouse-backends" -n posthouse-backends --create-namespace --wait --timeout 20m
}

# From the same Dockerfile, on the base that it names.
kind_images() {
    local binary tag images=("${BINARIES[@]/#/posthouse/}")
    images_stage
    tag=$(images_tag)
    for binary in "${BINARIES[@]}"; do
        docker build -q --build-arg "BINARY=$binary" -t "posthouse/$binary:$tag" -f "$ROOT/Dockerfile" "$IMAGE_STAGE"
    done
    "$KIND" load docker-image --name posthouse "${images[@]/%/:$tag}"
    echo "$tag" > "$STATE/image-tag"
    echo "$PROFILE" > "$STATE/image-profile"
}

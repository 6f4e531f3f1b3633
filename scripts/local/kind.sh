# The stack on kind. What differs from the native one: where the backends run, and how images get to the node.
KIND_VERSION=v0.33.0
KIND=$CACHE/kind/$KIND_VERSION/kind

kind_program() { [ -x "$KIND" ] || GOBIN=$(dirname "$KIND") go install "sigs.k8s.io/kind@$KIND_VERSION"; }

kind_cluster() {
    kind_program
    "$KIND" get clusters 2> /dev/null | grep -qx posthouse || "$KIND" create cluster --config "$ROOT/kind-config.yaml" --wait 120s
    "$KIND" export kubeconfig --name posthouse
}

kind_backends() {
    apply -f "$ROOT/deploy/local/namespace.yaml"
    kubectl get crd ingressroutes.traefik.io > /dev/null 2>&1 || { build_traefik && apply -f "$TRAEFIK_HOME/crds.yaml"; }
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
}

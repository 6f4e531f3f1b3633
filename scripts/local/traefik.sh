# Traefik as a host process: users come in on loopback, the operator's probe and other pods on the bridge.
HTTP_PORT=8000

traefik_up() {
    free_port traefik 127.0.0.1 $HTTP_PORT
    free_port traefik $HOST_IP $HTTP_PORT
    "$K8S/kubectl" apply --server-side --force-conflicts -f "$TRAEFIK_HOME/crds.yaml" -f "$ROOT/deploy/local/conf/traefik.yaml"
    KUBECONFIG=$IN_PKI/traefik.kubeconfig start_confined traefik "$(in_cache "$TRAEFIK_HOME")/traefik" \
        --entrypoints.users.address=127.0.0.1:$HTTP_PORT --entrypoints.pods.address=$HOST_IP:$HTTP_PORT \
        --entrypoints.users.asdefault=true --entrypoints.pods.asdefault=true \
        --entrypoints.ping.address=127.0.0.1:18083 --ping=true --ping.entrypoint=ping \
        --providers.kubernetescrd=true --providers.kubernetescrd.allowcrossnamespace=false \
        --providers.kubernetescrd.allowemptyservices=true \
        --providers.kubernetescrd.labelselector=app.kubernetes.io/managed-by=posthouse-operator \
        --providers.kubernetescrd.throttleduration=1s --serverstransport.forwardingtimeouts.dialtimeout=3s \
        --global.checknewversion=false --global.sendanonymoususage=false --log.level=INFO
    await 60 traefik curl -sf http://127.0.0.1:18083/ping
}

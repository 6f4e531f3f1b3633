# Ends what this stack runs on the machine, by its pid files and its own names. Data stays.

# Requires every other file of scripts/local. Order: what serves users first, what others stand on last.
end_everything() {
    local name
    for name in "${OBSERVABILITY[@]}" traefik coredns kubelet kube-proxy kube-controller-manager kube-scheduler; do stop $name & done
    wait
    node_clean
    stop kube-apiserver # before etcd, whose end it would wait for
    rabbitmq_down &
    for name in console registry opensearch etcd keycloak kafka cassandra redis s3; do stop $name 60 & done
    wait
    stop postgres 60
    for name in $(running_names); do stop "$name"; done
    iptables_clean
    bridge_down
    rm -rf $RUN/pid $RUN/buildah $RUN/owner
    mkdir -p $RUN/pid
}

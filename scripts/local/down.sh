# Ends what this stack runs on the machine, by its pid files and its own names. Data stays.

# Requires every other file of scripts/local. Order: what serves people first, what others stand on last.
end_everything() {
    local name
    for name in traefik coredns; do stop $name; done
    node_down
    for name in kube-controller-manager kube-scheduler kube-apiserver etcd keycloak kafka cassandra redis postgres; do
        stop $name 60 &
    done
    wait
    for name in $(running_names); do stop "$name"; done
    iptables_clean
    bridge_down
    rm -rf $RUN/pid $RUN/buildah $RUN/owner
    mkdir -p $RUN/pid
}

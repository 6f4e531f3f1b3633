# The node: containerd, kubelet, kube-proxy, as root with sockets and folders of their own; never the system's.
CONTAINERD_SOCKET=$RUN/containerd.sock
CNI_RESULTS=/var/lib/cni/results

ctr() { command ctr -a $CONTAINERD_SOCKET -n k8s.io "$@"; }

node_up() {
    # A socket's path ends at 107 characters; the longest one the kubelet makes below the checkout is 45.
    [ ${#ROOT} -le 60 ] || die "the path of this checkout is too long for unix sockets (${#ROOT} of at most 60 characters): move it"
    running containerd || node_clean
    mkdir -p "$STATE"/{containerd,kubelet,log/pods}
    modprobe br_netfilter 2>/dev/null || true
    render containerd.toml | configuration containerd containerd.toml
    render cni.conflist | configuration containerd cni/posthouse.conflist
    render kubelet.yaml | configuration kubelet kubelet.yaml
    render kube-proxy.yaml | configuration kube-proxy kube-proxy.yaml
    echo "nameserver $HOST_IP" | configuration kubelet resolv.conf
    free_port kubelet $HOST_IP 10250
    free_port kubelet 127.0.0.1 10248
    free_port kube-proxy 127.0.0.1 10256
    start containerd containerd --config "$STATE/conf/containerd.toml"
    await 60 containerd pods_are_served
    pause_image
    cgroups_make
    start kubelet "$K8S/kubelet" --config="$STATE/conf/kubelet.yaml" --kubeconfig="$PKI/kubelet.kubeconfig" \
        --hostname-override=$NODE --node-ip=$HOST_IP --root-dir="$STATE/kubelet" --cert-dir="$STATE/kubelet/pki"
    start kube-proxy "$K8S/kube-proxy" --config="$STATE/conf/kube-proxy.yaml" --hostname-override=$NODE
    await 60 kubelet curl -sf http://127.0.0.1:10248/healthz
    await 60 kube-proxy curl -sf http://127.0.0.1:10256/healthz
    # After `make down` the API server still has that the node was Ready before: it says something only of a kubelet that runs.
    await 90 kubelet "$K8S/kubectl" wait --for=condition=Ready "node/$NODE" --timeout=5s
}

# Reports whether containerd serves the kubelet, which ends or hangs when it does not. Its own API, by which `ctr` asks, is there before that: what
# serves pods first looks for those of the last run. The question is an empty message of gRPC: no flags, a length of four bytes.
pods_are_served() {
    [[ $(curl -s --max-time 5 --http2-prior-knowledge --unix-socket $CONTAINERD_SOCKET -H 'content-type: application/grpc' -H 'te: trailers' \
        --data-binary @<(printf '\0\0\0\0\0') -D - -o /dev/null http://containerd/runtime.v1.RuntimeService/Status) == *'grpc-status: 0'* ]]
}

# The container that holds a pod's namespaces. There is no registry to take the usual one from.
pause_image() {
    if ctr images ls -q | grep -qx docker.io/local/pause:1; then return; fi
    local work
    work=$(mktemp -d)
    cc -Os -static -o "$work/pause" "$ROOT/deploy/local/pause.c"
    printf 'FROM scratch\nCOPY pause /pause\nUSER 65535:65535\nENTRYPOINT ["/pause"]\n' > "$work/Dockerfile"
    build_image docker.io/local/pause:1 "$work/Dockerfile" "$work"
    rm -rf "$work"
}

# All pods live below a cgroup of our own name, so that what is left of them can be found without a query.
cgroups_make() {
    local controller
    if [ -f /sys/fs/cgroup/cgroup.controllers ]; then
        sed 's/\S*/+&/g' /sys/fs/cgroup/cgroup.controllers > /sys/fs/cgroup/cgroup.subtree_control
        mkdir -p /sys/fs/cgroup/posthouse
    else
        for controller in /sys/fs/cgroup/*/; do
            mkdir -p "$controller/posthouse" 2>/dev/null || true
        done
        for controller in cpus mems; do
            cat "/sys/fs/cgroup/cpuset/cpuset.$controller" > "/sys/fs/cgroup/cpuset/posthouse/cpuset.$controller"
        done
    fi
}

# Ends what is left of pods after kubelet and containerd are gone, killed or not: their processes, mounts, network
# namespaces, rules. Images and volumes stay. Everything is found by names that only this stack uses.
node_clean() {
    local pid file
    stop kubelet
    for file in /proc/[0-9]*/cmdline; do # the shims, by our socket's name; before containerd, or they would be restarted
        if { tr '\0' ' ' < "$file"; } 2> /dev/null | grep -q "containerd-shim.* -address $CONTAINERD_SOCKET"; then
            pid=${file#/proc/}
            kill -9 "${pid%/cmdline}" 2>/dev/null || true
        fi
    done
    stop containerd
    while read -r pid; do kill -9 "$pid" 2>/dev/null || true; done < <(find /sys/fs/cgroup -path '*/posthouse/*' -name cgroup.procs -exec cat {} + 2>/dev/null | sort -u)
    for file in $(findmnt -rno TARGET | grep -E "^$RUN/containerd/|/\.local/kubelet(/|$)" | tac); do umount -l "$file" || true; done
    for file in /run/netns/cni-*; do # those with an address of ours
        if [ -e "$file" ] && { ! nsenter --net="$file" true || nsenter --net="$file" ip -4 -o addr show to $POD_SUBNET | grep -q .; } 2> /dev/null; then
            umount -l "$file" 2> /dev/null || true
            rm -f "$file"
        fi
    done
    for file in "$CNI_RESULTS"/posthouse-*-eth0; do
        if [[ $file =~ posthouse-([0-9a-f]+)-eth0$ ]]; then rm -f "$file" "$CNI_RESULTS/cni-loopback-${BASH_REMATCH[1]}-lo"; fi
    done
    rm -rf $RUN/containerd $RUN/containerd.sock* $RUN/cni
    find /var/log/containers -lname "*/.local/log/pods/*" -delete 2>/dev/null || true
    find /sys/fs/cgroup -depth -type d -path '*/posthouse*' -exec rmdir {} \; 2>/dev/null || true
}

# Our rules and the chains of kube-proxy and kubelet, in one go; rules of others are written back as they were.
iptables_clean() {
    local family
    for family in iptables ip6tables; do
        if $family-save 2> /dev/null | grep -qE 'KUBE-|comment posthouse'; then
            $family-save | grep -vE 'KUBE-|comment posthouse' | $family-restore
        fi
    done
}

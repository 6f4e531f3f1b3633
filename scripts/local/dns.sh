# CoreDNS as a host process behind the usual cluster address; it may bind port 53 and nothing more.
dns_up() {
    free_port coredns $HOST_IP 53
    render Corefile | configuration coredns Corefile
    render dns.yaml | "$K8S/kubectl" apply --server-side --force-conflicts -f -
    SANDBOX_CAPABILITY=net_bind_service start_confined coredns $IN_K8S/coredns -conf $IN_STATE/conf/Corefile
    await 30 coredns curl -sf http://127.0.0.1:18181/ready
}

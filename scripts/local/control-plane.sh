# etcd, API server, controller manager and scheduler, all unprivileged.
ETCD_PORT=12379

etcd_up() {
    data_folder etcd
    free_port etcd 127.0.0.1 $ETCD_PORT
    # No fsync: safe against killed processes, which is what happens here; not against a power cut.
    start etcd "${UNPRIVILEGED[@]}" $IN_K8S/etcd --name posthouse --data-dir $IN_STATE/data/etcd --unsafe-no-fsync \
        --listen-client-urls http://127.0.0.1:$ETCD_PORT --advertise-client-urls http://127.0.0.1:$ETCD_PORT \
        --listen-peer-urls http://127.0.0.1:12380 --initial-advertise-peer-urls http://127.0.0.1:12380 \
        --initial-cluster posthouse=http://127.0.0.1:12380 --log-level warn
    await 60 etcd curl -sf http://127.0.0.1:$ETCD_PORT/health
}

apiserver_up() {
    free_port kube-apiserver $HOST_IP $API_PORT
    # A folder of its own, since the server rotates the log in it.
    mkdir -p "$STATE/log/audit" && chown nobody "$STATE/log/audit"
    ln -sfn audit/audit.log "$STATE/log/audit.log"
    configuration kube-apiserver audit-policy.yaml < "$ROOT/deploy/local/conf/audit-policy.yaml"
    start kube-apiserver "${UNPRIVILEGED[@]}" $IN_K8S/kube-apiserver --etcd-servers=http://127.0.0.1:$ETCD_PORT \
        --bind-address=$HOST_IP --advertise-address=$HOST_IP --secure-port=$API_PORT --service-cluster-ip-range=$SERVICE_SUBNET \
        --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction,DenyServiceExternalIPs --allow-privileged=true --profiling=false \
        --client-ca-file=$IN_PKI/ca.crt --tls-cert-file=$IN_PKI/kube-apiserver.crt --tls-private-key-file=$IN_PKI/kube-apiserver.key \
        --cert-dir=/tmp --kubelet-certificate-authority=$IN_PKI/ca.crt --kubelet-client-certificate=$IN_PKI/kubelet-client.crt \
        --kubelet-client-key=$IN_PKI/kubelet-client.key --kubelet-preferred-address-types=InternalIP \
        --service-account-issuer=https://kubernetes.default.svc --service-account-key-file=$IN_PKI/service-accounts.pub \
        --service-account-signing-key-file=$IN_PKI/service-accounts.key \
        --audit-policy-file=$IN_STATE/conf/audit-policy.yaml --audit-log-path=$IN_STATE/log/audit/audit.log \
        --audit-log-maxsize=50 --audit-log-maxbackup=1
    await 90 kube-apiserver "$K8S/kubectl" get --raw /readyz
}

controllers_up() {
    free_port kube-controller-manager 127.0.0.1 10257
    free_port kube-scheduler 127.0.0.1 10259
    start kube-controller-manager "${UNPRIVILEGED[@]}" $IN_K8S/kube-controller-manager --kubeconfig=$IN_PKI/kube-controller-manager.kubeconfig \
        --leader-elect=false --use-service-account-credentials --bind-address=127.0.0.1 --profiling=false --cert-dir=/tmp \
        --root-ca-file=$IN_PKI/ca.crt --service-account-private-key-file=$IN_PKI/service-accounts.key \
        --cluster-signing-cert-file=$IN_PKI/ca.crt --cluster-signing-key-file=$IN_PKI/ca.key
    start kube-scheduler "${UNPRIVILEGED[@]}" $IN_K8S/kube-scheduler --kubeconfig=$IN_PKI/kube-scheduler.kubeconfig \
        --leader-elect=false --bind-address=127.0.0.1 --profiling=false --cert-dir=/tmp
    await 60 kube-controller-manager "$K8S/kubectl" get serviceaccount default -n default
}

control_plane_up() {
    etcd_up
    apiserver_up
    controllers_up
}

# etcd, API server, controller manager and scheduler, each as a user of its own.
ETCD_PORT=12379
ETCD_URL=https://127.0.0.1:$ETCD_PORT
ETCD_PEER_URL=https://127.0.0.1:12380

etcd_up() {
    data_folder etcd
    free_port etcd 127.0.0.1 $ETCD_PORT
    # No fsync: safe against killed processes, which is what happens here; not against a power cut.
    # Both ports take clients with a certificate of its own authority only: the API server, and this script.
    start_confined etcd $IN_K8S/etcd --name posthouse --data-dir $IN_STATE/data/etcd --unsafe-no-fsync \
        --listen-client-urls $ETCD_URL --advertise-client-urls $ETCD_URL \
        --listen-peer-urls $ETCD_PEER_URL --initial-advertise-peer-urls $ETCD_PEER_URL --initial-cluster posthouse=$ETCD_PEER_URL \
        --client-cert-auth --trusted-ca-file=$IN_PKI/etcd-ca.crt --cert-file=$IN_PKI/etcd.crt --key-file=$IN_PKI/etcd.key \
        --peer-client-cert-auth --peer-trusted-ca-file=$IN_PKI/etcd-ca.crt --peer-cert-file=$IN_PKI/etcd.crt \
        --peer-key-file=$IN_PKI/etcd.key --log-level warn
    await 60 etcd etcd_as etcd-client
}

# etcd_as NAME: asks etcd how it is, with the certificate of that name.
etcd_as() { curl -sf --cacert "$PKI/etcd-ca.crt" --cert "$PKI/$1.crt" --key "$PKI/$1.key" $ETCD_URL/health; }

apiserver_up() {
    free_port kube-apiserver $HOST_IP $API_PORT
    # A folder of its own, since the server rotates the log in it.
    mkdir -p "$STATE/log/audit"
    own_user kube-apiserver
    chown -R "$(user_of kube-apiserver):" "$STATE/log/audit"
    chmod 700 "$STATE/log/audit"
    ln -sfn audit/audit.log "$STATE/log/audit.log"
    configuration kube-apiserver audit-policy.yaml < "$ROOT/deploy/local/conf/audit-policy.yaml"
    start_confined kube-apiserver $IN_K8S/kube-apiserver --etcd-servers=$ETCD_URL --etcd-cafile=$IN_PKI/etcd-ca.crt \
        --etcd-certfile=$IN_PKI/etcd-client.crt --etcd-keyfile=$IN_PKI/etcd-client.key \
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
    start_confined kube-controller-manager $IN_K8S/kube-controller-manager --kubeconfig=$IN_PKI/kube-controller-manager.kubeconfig \
        --leader-elect=false --use-service-account-credentials --bind-address=127.0.0.1 --profiling=false --cert-dir=/tmp \
        --root-ca-file=$IN_PKI/ca.crt --service-account-private-key-file=$IN_PKI/service-accounts.key \
        --cluster-signing-cert-file=$IN_PKI/ca.crt --cluster-signing-key-file=$IN_PKI/ca.key
    start_confined kube-scheduler $IN_K8S/kube-scheduler --kubeconfig=$IN_PKI/kube-scheduler.kubeconfig \
        --leader-elect=false --bind-address=127.0.0.1 --profiling=false --cert-dir=/tmp
    # Each has made its certificate itself.
    await 60 kube-controller-manager curl -skf https://127.0.0.1:10257/healthz
    await 60 kube-scheduler curl -skf https://127.0.0.1:10259/healthz
    # Without it no pod of a new cluster is admitted. One that was up before has it from the beginning.
    await 60 kube-controller-manager "$K8S/kubectl" get serviceaccount default -n default
}

control_plane_up() {
    etcd_up
    apiserver_up
    controllers_up
}

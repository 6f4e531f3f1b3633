# The cluster's certificates and one kubeconfig per user, made once, and those of backends that have TLS. X.509 v3 always: rustls refuses v1.
PKI=$STATE/pki
IN_PKI=$IN_STATE/pki
# Of backends: an authority of their own, which the cell trusts (spec.caBundle) and nothing else does.
CELL_PKI=$PKI/cell
IN_CELL_PKI=$IN_PKI/cell
API_PORT=6443

certs() {
    local name
    mkdir -p "$PKI" && chmod 711 "$PKI"
    authority ca
    # Its own: a certificate of the cluster must not open the store behind it.
    authority etcd-ca
    certificate etcd /CN=etcd IP:127.0.0.1 etcd-ca
    certificate etcd-client /CN=kube-apiserver '' etcd-ca
    if [ ! -s "$PKI/service-accounts.pub" ]; then
        openssl genrsa -out "$PKI/service-accounts.key" 2048
        openssl rsa -in "$PKI/service-accounts.key" -pubout -out "$PKI/service-accounts.pub"
    fi
    certificate kube-apiserver /CN=kube-apiserver \
        "DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:localhost,IP:127.0.0.1,IP:10.96.0.1,IP:$HOST_IP"
    certificate kubelet-client /O=system:masters/CN=kube-apiserver-kubelet-client
    certificate admin /O=system:masters/CN=admin
    certificate kubelet "/O=system:nodes/CN=system:node:$NODE" "DNS:$NODE,IP:$HOST_IP"
    for name in kube-controller-manager kube-scheduler kube-proxy; do certificate $name "/CN=system:$name"; done
    certificate coredns /CN=posthouse:dns
    certificate traefik /CN=posthouse:traefik
    for name in admin kubelet kube-controller-manager kube-scheduler kube-proxy coredns traefik; do
        (umask 077; kubeconfig $name > "$PKI/$name.kubeconfig")
    done
    cp "$PKI/admin.kubeconfig" "$KUBECONFIG"
    # A key is read by the daemon that uses it; what no daemon reads is root's.
    chown root:root "$PKI"/*
    chmod 600 "$PKI"/*.{key,kubeconfig}
    for name in kube-controller-manager kube-scheduler coredns traefik; do
        own_user $name
        keep_for $name "$PKI/$name.kubeconfig"
    done
    own_user kube-apiserver # before etcd, whose end it would wait for
    keep_for kube-apiserver "$PKI"/{kube-apiserver,kubelet-client,etcd-client}.key
    own_user etcd
    keep_for etcd "$PKI/etcd.key"
    keep_for kube-controller-manager "$PKI/ca.key"
    # One checks with it what it signed, the other one signs.
    chown "$(user_of kube-apiserver):$(user_of kube-controller-manager)" "$PKI/service-accounts.key"
    chmod 640 "$PKI/service-accounts.key"
}

cell_authority() {
    local PKI=$CELL_PKI
    mkdir -p "$PKI" && chmod 711 "${PKI%/*}" "$PKI"
    authority ca
    chmod 600 "$PKI/ca.key"
}

# cell_certificate BACKEND: a certificate for its address, and the key, which its user alone reads.
cell_certificate() {
    local PKI=$CELL_PKI
    certificate "$1" "/CN=$1" "IP:$HOST_IP"
    own_user "$1"
    keep_for "$1" "$PKI/$1.key"
}

# authority NAME: makes an authority that signs certificates.
authority() {
    if [ -s "$PKI/$1.crt" ]; then return; fi
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj "/CN=posthouse-local-$1" \
        -addext keyUsage=critical,keyCertSign,cRLSign -keyout "$PKI/$1.key" -out "$PKI/$1.crt.part"
    mv "$PKI/$1.crt.part" "$PKI/$1.crt"
}

# certificate NAME SUBJECT [ALTERNATIVE-NAMES [AUTHORITY]]: for servers and clients alike, signed by an authority of our own.
certificate() {
    local authority=$PKI/${4:-ca}
    if [ -s "$PKI/$1.crt" ]; then return; fi
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "$2" -keyout "$PKI/$1.key" -out "$PKI/$1.csr"
    {
        echo keyUsage=critical,digitalSignature
        echo extendedKeyUsage=serverAuth,clientAuth
        if [ -n "${3:-}" ]; then echo "subjectAltName=$3"; fi
    } > "$PKI/$1.ext"
    openssl x509 -req -days 3650 -in "$PKI/$1.csr" -CA "$authority.crt" -CAkey "$authority.key" -CAcreateserial \
        -extfile "$PKI/$1.ext" -out "$PKI/$1.crt.part"
    rm "$PKI/$1.csr" "$PKI/$1.ext"
    mv "$PKI/$1.crt.part" "$PKI/$1.crt"
}

kubeconfig() {
    cat << YAML
apiVersion: v1
kind: Config
clusters:
  - name: posthouse-local
    cluster: {server: "https://$HOST_IP:$API_PORT", certificate-authority-data: $(base64 -w0 < "$PKI/ca.crt")}
users:
  - name: $1
    user: {client-certificate-data: $(base64 -w0 < "$PKI/$1.crt"), client-key-data: $(base64 -w0 < "$PKI/$1.key")}
contexts:
  - name: posthouse-local
    context: {cluster: posthouse-local, user: $1}
current-context: posthouse-local
YAML
}

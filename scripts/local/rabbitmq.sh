# RabbitMQ: the message broker of notification jobs. Brought up on request, WITH=rabbitmq; what is in it stays over a restart. Everything it
# listens on for clients has TLS, with a certificate that the cell trusts.
RABBITMQ_PORT=15670
RABBITMQ_MANAGEMENT_PORT=15671
RABBITMQ_DIST_PORT=25673
RABBITMQ_EPMD_PORT=14369

# From Debian, with its Erlang. Their own services do not start now (see apt_packages), nor with the machine: they would listen on every
# address. What was installed by others stays as it is.
download_rabbitmq() {
    local PACKAGES=(rabbitmq-server) COMMANDS=() units=(rabbitmq-server)
    if dpkg-query -W -f '${db:Status-Status}' rabbitmq-server 2> /dev/null | grep -qx installed; then return; fi
    command -v epmd > /dev/null || units+=(epmd.service epmd.socket)
    apt_packages
    if command -v systemctl > /dev/null; then systemctl disable --quiet "${units[@]}"; fi
}

# The scripts beside the Erlang code: those on PATH switch to another user.
rabbitmq_scripts() { dirname "$(dpkg -L rabbitmq-server | grep 'lib.*sbin/rabbitmq-server$')"; }

# rabbitmq_env: prints the settings of a node of our own, one a line.
rabbitmq_env() {
    local data=$IN_STATE/data/rabbitmq
    printf '%s\n' "HOME=$data" RABBITMQ_NODENAME=posthouse@localhost "RABBITMQ_MNESIA_BASE=$data/mnesia" \
        "RABBITMQ_LOG_BASE=$data/log" "RABBITMQ_CONFIG_FILE=$IN_STATE/conf/rabbitmq.conf" \
        "RABBITMQ_ENABLED_PLUGINS_FILE=$data/enabled_plugins" "RABBITMQ_DIST_PORT=$RABBITMQ_DIST_PORT" \
        ERL_EPMD_ADDRESS=127.0.0.1 "ERL_EPMD_PORT=$RABBITMQ_EPMD_PORT"
}

# rabbitmq_tls SECTION: prints the settings of a listener with TLS. Clients have accounts, and no certificates.
rabbitmq_tls() {
    printf "$1.%s\n" "cacertfile = $IN_CELL_PKI/ca.crt" "certfile = $IN_CELL_PKI/rabbitmq.crt" "keyfile = $IN_CELL_PKI/rabbitmq.key" \
        'versions.1 = tlsv1.3' 'versions.2 = tlsv1.2'
}

# Both accounts are administrators: RabbitMQ has no smaller right by which virtual hosts and users are made. The first one is in the
# configuration, so that there is no moment with the well-known password.
rabbitmq_up() {
    local data=$STATE/data/rabbitmq settings
    data_folder rabbitmq
    free_port rabbitmq $HOST_IP $RABBITMQ_PORT
    free_port rabbitmq $HOST_IP $RABBITMQ_MANAGEMENT_PORT
    free_port rabbitmq 127.0.0.1 $RABBITMQ_DIST_PORT
    cell_certificate rabbitmq
    echo '[rabbitmq_management].' > "$data/enabled_plugins"
    chown "$(user_of rabbitmq):" "$data/enabled_plugins"
    configuration rabbitmq rabbitmq.conf << CONF
listeners.tcp = none
listeners.ssl.1 = $HOST_IP:$RABBITMQ_PORT
$(rabbitmq_tls ssl_options)
ssl_options.verify = verify_none
management.ssl.ip = $HOST_IP
management.ssl.port = $RABBITMQ_MANAGEMENT_PORT
$(rabbitmq_tls management.ssl)
default_user = admin
default_pass = $(secret rabbitmq-admin)
vm_memory_high_watermark.absolute = 256MB
log.console = true
log.console.level = warning
CONF
    mapfile -t settings < <(rabbitmq_env)
    start_confined rabbitmq env "${settings[@]}" \
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=-kernel inet_dist_use_interface {127,0,0,1} +S 1:1" \
        "$(rabbitmq_scripts)/rabbitmq-server"
    await 90 rabbitmq rabbitmq_admin whoami
    rabbitmq_admin users/posthouse-operator -X PUT --data-binary @- << JSON
{"password": "$(secret rabbitmq-operator)", "tags": "administrator"}
JSON
}

# rabbitmq_admin PATH [CURL-OPTION...]: passwords are on no command line.
rabbitmq_admin() {
    local path=$1; shift
    curl -sf -o /dev/null --cacert "$CELL_PKI/ca.crt" -K <(echo "user = \"admin:$(secret rabbitmq-admin)\"") -H 'content-type: application/json' \
        "https://$HOST_IP:$RABBITMQ_MANAGEMENT_PORT/api/$path" "$@"
}

# What is left of its user goes, too: the daemon by which Erlang's nodes find each other outlives the node that started it, and so does the
# node the script that `stop` had to kill.
rabbitmq_down() {
    stop rabbitmq 60
    if id "$(user_of rabbitmq)" > /dev/null 2>&1; then pkill -u "$(user_of rabbitmq)" || true; fi
}

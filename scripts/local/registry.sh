# Schema registry: Apicurio, which has the API of Confluent's below a path. Brought up on request, WITH=registry. What is in it ends with
# its process, and the operator registers it again.
REGISTRY_PORT=17081
REGISTRY_URL=http://$HOST_IP:$REGISTRY_PORT/apis/ccompat/v7
REGISTRY_HOME=$CACHE/apicurio/$APICURIO

download_registry() {
    local part=$REGISTRY_HOME.part name=apicurio-registry-app-$APICURIO
    if [ -d "$REGISTRY_HOME" ]; then return; fi
    rm -rf "$part" && mkdir -p "$part"
    mvn -q -B dependency:copy "-Dartifact=io.apicurio:apicurio-registry-app:$APICURIO:tar.gz:all" "-DoutputDirectory=$part"
    tar xzf "$part/$name-all.tar.gz" -C "$part"
    rm "$part/$name-all.tar.gz"
    mv "$part" "$REGISTRY_HOME"
}

# It knows no accounts: the cell names no Secret for it.
registry_up() {
    data_folder registry
    free_port registry $HOST_IP $REGISTRY_PORT
    start_confined registry java -Xms64m -Xmx256m $SMALL_JVM -Dquarkus.http.host=$HOST_IP -Dquarkus.http.port=$REGISTRY_PORT \
        -Dapicurio.storage.kind=sql -Dapicurio.storage.sql.kind=h2 \
        -jar "$(in_cache "$REGISTRY_HOME")/apicurio-registry-app-$APICURIO-runner.jar"
    await 90 registry curl -sf -o /dev/null "$REGISTRY_URL/subjects"
}

# Keycloak on PostgreSQL, and the operator's account in it.
KEYCLOAK_PORT=18080
KEYCLOAK_MANAGEMENT_PORT=19000
KEYCLOAK_URL=http://$HOST_IP:$KEYCLOAK_PORT

keycloak_up() {
    local home=$IN_STATE/data/keycloak
    data_folder keycloak
    free_port keycloak $HOST_IP $KEYCLOAK_PORT
    free_port keycloak $HOST_IP $KEYCLOAK_MANAGEMENT_PORT
    # The server writes below its home, and the cache is read-only to it: hence a home of links.
    mkdir -p "$STATE/data/keycloak/tmp" && chown "$(user_of keycloak):" "$STATE/data/keycloak/tmp"
    ln -sfn -t "$STATE/data/keycloak" "$(in_cache "$KEYCLOAK_HOME")"/{lib,conf,providers}
    keycloak_themes
    # Passwords by environment: a command line is there for every process to read. Not through kc.sh, whose shell
    # would stay between the pid file and the server.
    KC_BOOTSTRAP_ADMIN_USERNAME=admin KC_BOOTSTRAP_ADMIN_PASSWORD=$(secret keycloak-admin) KC_DB_PASSWORD=$(secret postgres-keycloak) \
        start_confined keycloak java -Xms64m -Xmx384m $SMALL_JVM -XX:MaxMetaspaceSize=256m -Djava.net.preferIPv4Stack=true \
        -Djava.io.tmpdir=$home/tmp -Dkc.home.dir=$home -Djboss.server.config.dir=$home/conf \
        -Djava.util.logging.manager=org.jboss.logmanager.LogManager -Dpicocli.disable.closures=true \
        -Dquarkus-log-max-startup-records=10000 \
        -Djava.util.concurrent.ForkJoinPool.common.threadFactory=io.quarkus.bootstrap.forkjoin.QuarkusForkJoinWorkerThreadFactory \
        --add-opens=java.base/java.{util,util.concurrent,security,lang}=ALL-UNNAMED --enable-native-access=ALL-UNNAMED \
        -cp $home/lib/quarkus-run.jar io.quarkus.bootstrap.runner.QuarkusEntryPoint \
        start --optimized --http-enabled=true --hostname=$KEYCLOAK_URL --http-host=$HOST_IP --http-port=$KEYCLOAK_PORT \
        --http-management-port=$KEYCLOAK_MANAGEMENT_PORT --cache=local \
        --db-url=jdbc:postgresql://$HOST_IP:$PG_PORT/keycloak --db-username=keycloak --db-pool-min-size=1 --db-pool-max-size=10 \
        --log-level=warn,org.keycloak:info
    await 240 keycloak curl -sf -o /dev/null http://$HOST_IP:$KEYCLOAK_MANAGEMENT_PORT/health/ready
    if [ ! -e "$STATE/data/keycloak/accounts" ]; then
        keycloak_operator
        touch "$STATE/data/keycloak/accounts"
    fi
}

# The theme of the pages on which users sign in. Keycloak keeps compressed copies of its files from one start to the next. One that is there
# stays: a server that runs may be reading it.
keycloak_themes() {
    local folder=$STATE/data/keycloak
    if diff -qr "$ROOT/deploy/keycloak-theme/posthouse" "$folder/themes/posthouse" > /dev/null 2>&1; then return; fi
    rm -rf "$folder/themes" "$folder/data/tmp/kc-gzip-cache"
    mkdir "$folder/themes"
    cp -R "$ROOT/deploy/keycloak-theme/posthouse" "$folder/themes"
    chown -R "$(user_of keycloak):" "$folder/themes"
}

# A client of the master realm that may make realms, and so manages those it made and no other. Lightweight tokens
# keep its token small: a full one grows by half a kilobyte with every realm until requests are refused.
keycloak_operator() {
    local user
    keycloak_admin POST clients > /dev/null << JSON || echo "the client exists already"
{"clientId": "posthouse-operator", "secret": "$(secret keycloak-operator)", "publicClient": false, "serviceAccountsEnabled": true,
 "standardFlowEnabled": false, "directAccessGrantsEnabled": false, "fullScopeAllowed": true,
 "attributes": {"client.use.lightweight.access.token.enabled": "true"}}
JSON
    user=$(keycloak_admin GET 'users?username=service-account-posthouse-operator&exact=true' | jq -er '.[0].id')
    keycloak_admin GET roles/create-realm | jq -c '[.]' | keycloak_admin POST "users/$user/role-mappings/realm"
}

# keycloak_admin METHOD PATH: a call on the master realm; the body of a POST is read from the input.
keycloak_admin() {
    local token body=()
    token=$(curl -sf "$KEYCLOAK_URL/realms/master/protocol/openid-connect/token" \
        --data-urlencode "password@$STATE/secrets/keycloak-admin" -d grant_type=password -d client_id=admin-cli -d username=admin | jq -er .access_token)
    if [ "$1" = POST ]; then body=(-H 'content-type: application/json' --data-binary @-); fi
    curl -sf -X "$1" -H @<(echo "authorization: Bearer $token") "${body[@]}" "$KEYCLOAK_URL/admin/realms/master/$2"
}

# Cassandra stands in for ScyllaDB, whose server comes from no package registry. Logins and rights are on.
CQL_PORT=19042
CASSANDRA_STORAGE_PORT=17000

cassandra_up() {
    data_folder cassandra
    free_port cassandra $HOST_IP $CQL_PORT
    free_port cassandra 127.0.0.1 $CASSANDRA_STORAGE_PORT
    render cassandra.yaml | configuration cassandra cassandra/cassandra.yaml
    configuration cassandra cassandra/logback.xml < "$ROOT/deploy/local/conf/cassandra-logback.xml"
    cassandra_jvm_arguments | configuration cassandra cassandra/jvm.args
    local conf=$IN_STATE/conf/cassandra lib=$IN_CACHE/cassandra/$CASSANDRA
    start_confined cassandra java -Xms384m -Xmx384m $SMALL_JVM "@$conf/jvm.args" -javaagent:$lib/jamm-0.4.0.jar \
        -Dcassandra.config=file://$conf/cassandra.yaml -Dcassandra.storagedir=$IN_STATE/data/cassandra \
        -Dlogback.configurationFile=file://$conf/logback.xml -Dcassandra.superuser_setup_delay_ms=0 \
        -Dcassandra.skip_wait_for_gossip_to_settle=0 -Dcassandra.ring_delay_ms=1 -Dcassandra.jmx.local.port=17199 \
        -cp "$conf:$lib/*" org.apache.cassandra.service.CassandraDaemon
    await 240 cassandra port_open $HOST_IP $CQL_PORT
    if [ ! -e "$STATE/data/cassandra/accounts" ]; then
        cassandra_accounts
        touch "$STATE/data/cassandra/accounts"
    fi
}

# The well-known first login loses its password and rights once ours exists. `IF NOT EXISTS` and `GRANT` repeat
# cleanly, so a run that was killed in the middle is simply done again.
cassandra_accounts() {
    cql cassandra cassandra <<< "CREATE ROLE IF NOT EXISTS admin WITH PASSWORD = '$(secret cql-admin)' AND LOGIN = true AND SUPERUSER = true" ||
        echo "no first login with the well-known password: accounts were made by an earlier run"
    cql admin "$(secret cql-admin)" << CQL
ALTER ROLE cassandra WITH PASSWORD = '$(openssl rand -hex 20)' AND SUPERUSER = false
CREATE ROLE IF NOT EXISTS posthouse_operator WITH PASSWORD = '$(secret cql-operator)' AND LOGIN = true AND SUPERUSER = false
GRANT CREATE ON ALL KEYSPACES TO posthouse_operator
GRANT CREATE ON ALL ROLES TO posthouse_operator
GRANT ALTER ON ALL ROLES TO posthouse_operator
GRANT DROP ON ALL ROLES TO posthouse_operator
GRANT AUTHORIZE ON ALL ROLES TO posthouse_operator
GRANT DESCRIBE ON ALL ROLES TO posthouse_operator
GRANT SELECT ON KEYSPACE system_auth TO posthouse_operator
CQL
}

# cql USER PASSWORD: runs the statements on its input, one a line. The password goes by the environment.
cql() {
    CQL_USER=$1 CQL_PASSWORD=$2 java -Xmx128m $SMALL_JVM -Dlogback.configurationFile="$ROOT/deploy/local/conf/cql-logback.xml" \
        -cp "$CACHE/cassandra/$CASSANDRA/*" "$ROOT/deploy/local/Cql.java" $HOST_IP $CQL_PORT
}

# Java 17 hides what Cassandra reaches into; this is the list of its own start script.
cassandra_jvm_arguments() {
    local package
    echo '-Djdk.attach.allowAttachSelf=true'
    for package in java.base/{jdk.internal.misc,java.lang.ref,sun.nio.ch} java.management.rmi/com.sun.jmx.remote.internal.rmi \
        java.rmi/sun.rmi.{registry,server} java.sql/java.sql jdk.unsupported/sun.misc; do
        echo "--add-exports $package=ALL-UNNAMED"
    done
    for package in java.base/{java.{lang,lang.module,lang.reflect,io,math,net,nio,util,util.concurrent,util.concurrent.atomic},jdk.internal.{loader,ref,reflect,math,module,util.jar},sun.nio.ch} \
        jdk.management/com.sun.management.internal; do
        echo "--add-opens $package=ALL-UNNAMED"
    done
}

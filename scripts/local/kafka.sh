# Kafka in one process: broker and controller, SCRAM for everyone, the authorizer on, no topic made by accident. It has a second listener with TLS,
# which tests use.
KAFKA_PORT=19092
KAFKA_TLS_PORT=19094
KAFKA_CONTROLLER_PORT=19093

kafka_up() {
    local data=$STATE/data/kafka
    data_folder kafka
    free_port kafka $HOST_IP $KAFKA_PORT
    free_port kafka $HOST_IP $KAFKA_TLS_PORT
    free_port kafka 127.0.0.1 $KAFKA_CONTROLLER_PORT
    cell_certificate kafka
    # The key and its certificate, as Kafka reads them.
    cat "$CELL_PKI/kafka.key" "$CELL_PKI/kafka.crt" | configuration kafka kafka.pem
    ADMIN_PASSWORD=$(secret kafka-admin) CONTROLLER_PASSWORD=$(secret kafka-controller) render kafka.properties |
        configuration kafka kafka.properties
    ADMIN_PASSWORD=$(secret kafka-admin) render kafka-admin.properties | configuration kafka kafka-admin.properties
    if [ ! -s "$data/log/meta.properties" ]; then
        # Both users are part of the first record of the metadata log: no window without them. The passwords go by
        # an argument file, since a command line is there for every process to read.
        configuration kafka kafka-format.args << ARGUMENTS
kafka.tools.StorageTool format -t $(kafka_java kafka.tools.StorageTool random-uuid)
-c $IN_STATE/conf/kafka.properties --standalone
--add-scram SCRAM-SHA-512=[name=admin,password=$(secret kafka-admin)]
--add-scram SCRAM-SHA-512=[name=posthouse-operator,password=$(secret kafka-operator)]
ARGUMENTS
        kafka_java "@$IN_STATE/conf/kafka-format.args" > /dev/null # it prints the salted passwords
        rm "$STATE/conf/kafka-format.args"
    fi
    start_confined kafka java -Xms128m -Xmx320m $SMALL_JVM $KAFKA_JVM kafka.Kafka $IN_STATE/conf/kafka.properties
    await 120 kafka port_open $HOST_IP $KAFKA_PORT
    if [ ! -e "$data/operator-acls" ]; then
        # Least privilege: the operator administers topics, users and rights, and may read or write no message.
        kafka_allow --cluster --operation Alter --operation AlterConfigs --operation Describe --operation DescribeConfigs --operation Create
        kafka_allow --topic '*' --operation Create --operation Delete --operation Describe --operation Alter \
            --operation AlterConfigs --operation DescribeConfigs
        kafka_allow --group '*' --operation Describe --operation Delete
        touch "$data/operator-acls"
    fi
}

SMALL_JVM='-XX:+UseSerialGC -XX:TieredStopAtLevel=1'
KAFKA_JVM="-Dorg.slf4j.simpleLogger.defaultLogLevel=warn -Dorg.slf4j.simpleLogger.showDateTime=true -cp $IN_CACHE/kafka/$KAFKA/*"
kafka_java() { confined kafka java -Xmx128m $SMALL_JVM $KAFKA_JVM "$@"; }

kafka_allow() {
    kafka_java org.apache.kafka.tools.AclCommand --bootstrap-server $HOST_IP:$KAFKA_PORT \
        --command-config $IN_STATE/conf/kafka-admin.properties --add --allow-principal User:posthouse-operator "$@"
}

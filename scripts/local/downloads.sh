# What comes from Maven Central, into the cache, one folder per version. A folder appears only when it is whole.

# jars FOLDER GROUP:ARTIFACT:VERSION...: the artifacts with all they need at run time.
jars() {
    local folder=$1 part=$1.part coordinate group artifact version; shift
    if [ -d "$folder" ]; then return; fi
    rm -rf "$part" && mkdir -p "$part"
    {
        echo '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
        echo '<groupId>local</groupId><artifactId>local</artifactId><version>1</version><packaging>pom</packaging><dependencies>'
        for coordinate; do
            IFS=: read -r group artifact version <<< "$coordinate"
            echo "<dependency><groupId>$group</groupId><artifactId>$artifact</artifactId><version>$version</version></dependency>"
        done
        echo '</dependencies></project>'
    } > "$part/pom.xml"
    (cd "$part" && mvn -q -B dependency:copy-dependencies -DoutputDirectory=. -DincludeScope=runtime)
    rm "$part/pom.xml"
    mv "$part" "$folder"
}

download_kafka() {
    mkdir -p "$CACHE/kafka"
    jars "$CACHE/kafka/$KAFKA" "org.apache.kafka:kafka_2.13:$KAFKA" "org.apache.kafka:kafka-tools:$KAFKA" "org.slf4j:slf4j-simple:$SLF4J"
}

download_cassandra() {
    mkdir -p "$CACHE/cassandra"
    jars "$CACHE/cassandra/$CASSANDRA" "org.apache.cassandra:cassandra-all:$CASSANDRA"
}

# Keycloak is built for PostgreSQL once, here: a start is then 9 s instead of 40. Without metrics, which would answer every pod; the
# folder's name says what it is built with.
KEYCLOAK_HOME=$CACHE/keycloak/$KEYCLOAK-postgres-health
download_keycloak() {
    local folder=$KEYCLOAK_HOME part=$KEYCLOAK_HOME.part
    if [ -d "$folder" ]; then return; fi
    rm -rf "$part" && mkdir -p "$part"
    mvn -q -B dependency:copy "-Dartifact=org.keycloak:keycloak-quarkus-dist:$KEYCLOAK:zip" "-DoutputDirectory=$part"
    unzip -q "$part/keycloak-quarkus-dist-$KEYCLOAK.zip" -d "$part"
    rm "$part/keycloak-quarkus-dist-$KEYCLOAK.zip"
    JAVA_OPTS="-Xmx512m -XX:+UseSerialGC" "$part/keycloak-$KEYCLOAK/bin/kc.sh" build --db=postgres --health-enabled=true
    mkdir -p "$part/keycloak-$KEYCLOAK/data"
    mv "$part/keycloak-$KEYCLOAK" "$folder"
    rm -rf "$part"
}

# PostgreSQL: Keycloak's database and the tenants'. It has TLS, with a certificate that the cell trusts, and takes sessions without it, as those of tests.
PG_PORT=15432
PG_BIN=/usr/lib/postgresql/15/bin

postgres_up() {
    local data=$IN_STATE/data/postgres
    data_folder postgres
    free_port postgres $HOST_IP $PG_PORT
    cell_certificate postgres
    if [ ! -s "$STATE/data/postgres/db/PG_VERSION" ]; then
        rm -rf "$STATE/data/postgres/db"
        secret postgres-admin > "$STATE/data/postgres/password"
        keep_for postgres "$STATE/data/postgres/password"
        confined postgres $PG_BIN/initdb -D $data/db -U admin -A scram-sha-256 --pwfile=$data/password -E UTF8 --locale=C.UTF-8 --no-sync
        echo "host all all $POD_SUBNET scram-sha-256" >> "$STATE/data/postgres/db/pg_hba.conf"
        rm "$STATE/data/postgres/password"
    fi
    # fsync off: safe against killed processes, which is what happens here; not against a power cut.
    running postgres || rm -f "$STATE/data/postgres/db/postmaster.pid"
    start_confined postgres $PG_BIN/postgres -D $data/db -p $PG_PORT -h $HOST_IP -k $data -F \
        -c ssl=on -c ssl_cert_file=$IN_CELL_PKI/postgres.crt -c ssl_key_file=$IN_CELL_PKI/postgres.key \
        -c shared_buffers=64MB -c full_page_writes=off -c max_connections=1200
    await 60 postgres psql_admin -c 'SELECT 1'
    postgres_account keycloak ''
    psql_admin -tc "SELECT 1 FROM pg_database WHERE datname = 'keycloak'" | grep -q 1 ||
        psql_admin -c 'CREATE DATABASE keycloak OWNER keycloak' -c 'REVOKE CONNECT ON DATABASE keycloak FROM PUBLIC'
    # The operator makes databases and roles, and owns nothing else.
    postgres_account posthouse_operator 'CREATEDB CREATEROLE'
    # Every role may enter every database unless restricted; a tenant's role enters its own.
    psql_admin -c 'REVOKE CONNECT, TEMPORARY ON DATABASE postgres, template1 FROM PUBLIC' \
        -c 'GRANT CONNECT ON DATABASE postgres TO posthouse_operator'
}

# postgres_account ROLE ATTRIBUTES: a role that logs in with the secret `postgres-ROLE`.
postgres_account() {
    psql_admin -tc "SELECT 1 FROM pg_roles WHERE rolname = '$1'" | grep -q 1 || psql_admin -c "CREATE ROLE $1 LOGIN"
    psql_admin << SQL
ALTER ROLE $1 LOGIN $2 PASSWORD '$(secret "postgres-$1")';
SQL
}

psql_admin() { PGPASSWORD=$(secret postgres-admin) psql -qX -v ON_ERROR_STOP=1 -h $HOST_IP -p $PG_PORT -U admin -d postgres "$@"; }

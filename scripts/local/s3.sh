# S3: versitygw on a folder. Accounts are managed at a port of their own.
S3_PORT=17070
S3_ACCOUNTS_PORT=17071
S3_HOME=$CACHE/versitygw/$VERSITYGW

build_s3() { go_program "$S3_HOME" "github.com/versity/versitygw/cmd/versitygw@$VERSITYGW"; }

# The operator's account is in the file of accounts before the first start: no window without it, and its secret key on no command
# line. It needs the role that manages accounts and buckets. Attributes of objects are kept in files of their own, which every file
# system takes.
s3_up() {
    local data=$STATE/data/s3 user part
    data_folder s3
    user=$(user_of s3)
    free_port s3 $HOST_IP $S3_PORT
    free_port s3 $HOST_IP $S3_ACCOUNTS_PORT
    for part in accounts objects attributes; do mkdir -p "$data/$part" && chown "$user:" "$data/$part"; done
    if [ ! -s "$data/accounts/users.json" ]; then
        (umask 077; cat > "$data/accounts/users.json" << JSON
{"accessAccounts": {"posthouse-operator": {"access": "posthouse-operator", "secret": "$(secret s3-operator)", "role": "admin"}}}
JSON
        )
        keep_for s3 "$data/accounts/users.json"
    fi
    ROOT_ACCESS_KEY=admin ROOT_SECRET_KEY=$(secret s3-admin) \
        start_confined s3 "$(in_cache "$S3_HOME")/versitygw" --port $HOST_IP:$S3_PORT --admin-port $HOST_IP:$S3_ACCOUNTS_PORT \
        --region us-east-1 --quiet --iam-dir $IN_STATE/data/s3/accounts posix --sidecar $IN_STATE/data/s3/attributes $IN_STATE/data/s3/objects
    await 30 s3 port_open $HOST_IP $S3_PORT
    await 30 s3 port_open $HOST_IP $S3_ACCOUNTS_PORT
}

# Redis with an ACL file: `ACL SAVE` keeps the tenants' users over a restart.
REDIS_PORT=16379

redis_up() {
    local acl=$STATE/data/redis/users.acl
    data_folder redis
    free_port redis $HOST_IP $REDIS_PORT
    if [ ! -s "$acl" ]; then
        cat > "$acl" << ACL
user default off
user admin on >$(secret redis-admin) ~* &* +@all
user posthouse-operator on >$(secret redis-operator) resetchannels ~mt:* -@all +acl|setuser +acl|getuser +acl|deluser +acl|list +acl|save +acl|whoami +ping +scan +unlink
ACL
        keep_for redis "$acl"
    fi
    start_confined redis redis-server --bind $HOST_IP --port $REDIS_PORT --dir $IN_STATE/data/redis \
        --proto-max-bulk-len 1mb --client-query-buffer-limit 4mb \
        --aclfile $IN_STATE/data/redis/users.acl --save '' --appendonly yes --maxmemory 128mb --maxmemory-policy noeviction
    await 30 redis redis_admin ping
}

redis_admin() { REDISCLI_AUTH=$(secret redis-admin) redis-cli -h $HOST_IP -p $REDIS_PORT --user admin -e "$@"; }

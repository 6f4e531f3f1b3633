# Addresses, the bridge and iptables chains belong to the machine: one checkout at a time may own them.

# Run with the machine-wide lock on file descriptor 9, so that two runs cannot interleave.
take_lock() {
    mkdir -p $RUN/{pid,state,cache}
    exec 9> $RUN/lock
    if ! flock -n 9; then
        echo "another make of this stack is at work ($(cat $RUN/owner 2>/dev/null || echo unknown)); waiting for it"
        flock -w 1800 9 || die "still locked after 30 minutes: see \`fuser $RUN/lock\`"
    fi
}

running_names() {
    local file
    for file in "$RUN"/pid/*; do
        [ -e "$file" ] && running "$(basename "$file")" && basename "$file"
    done || true
}

# Takes the machine over from an earlier checkout, when nothing of it runs any more. A living one is named, and left
# alone unless POSTHOUSE_TAKEOVER=1 is set; its data stays where it is.
own_machine() {
    local owner living
    owner=$(cat $RUN/owner 2>/dev/null || true)
    if [ -n "$owner" ] && [ "$owner" != "$ROOT" ]; then
        living=$(running_names | tr '\n' ' ')
        if [ -n "$living" ] && [ -z "${POSTHOUSE_TAKEOVER:-}" ]; then
            die "the stack of $owner is up on this machine (${living% }). Stop it with \`make -C $owner down\`" \
                "(when that folder is gone: \`make down TAKEOVER=1\` here), then run this again"
        fi
        echo "cleaning up after $owner"
        step 'stop its stack' end_everything
    fi
    echo "$ROOT" > $RUN/owner
    ln -sfn $RUN/pid "$STATE/pid"
}

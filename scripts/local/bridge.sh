# The bridge carries the node's address and the pods. Without it the addresses would leave the machine
# by the default route, so nothing is started before `ip route get` answers `local`.
bridge_up() {
    if ! ip link show $BRIDGE > /dev/null 2>&1; then
        local other
        other=$(ip -o -4 addr show to $POD_SUBNET | awk '{print $2}' | sort -u | tr '\n' ' ')
        [ -z "$other" ] || die "addresses of $POD_SUBNET are in use on interface $other: the local stack needs that range"
        ip link add $BRIDGE type bridge
    fi
    ip addr replace $HOST_IP/16 dev $BRIDGE
    ip link set $BRIDGE up
    ip route get $HOST_IP | grep -q '^local' || die "$HOST_IP is not local to this machine although $BRIDGE is up: see \`ip route\`"
    # A service address without a rule yet dies on the bridge instead of leaving the machine.
    ip route replace $SERVICE_SUBNET dev $BRIDGE
    echo 1 > /proc/sys/net/ipv4/ip_forward
    # Pods reach each other and this machine, even where a container engine drops what is forwarded by default; and
    # nothing of theirs leaves the machine.
    bridge_rule "-o $BRIDGE -j ACCEPT"
    bridge_rule "! -o $BRIDGE -j REJECT"
}

bridge_rule() {
    local rule="FORWARD -i $BRIDGE -m comment --comment posthouse $1"
    iptables -C $rule 2> /dev/null || iptables -I $rule
}

bridge_down() {
    if ip link show $BRIDGE > /dev/null 2>&1; then ip link delete $BRIDGE; fi
}

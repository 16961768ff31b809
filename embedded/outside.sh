# shellcheck shell=bash
# Sourced by embedded/host and embedded/destroy: the network outside of the embedded lab. Beyond the uplink's other end stands a router
# that announces the external prefix, and beyond the router a client on a network of its own. Each is a network namespace:
#
#   ip netns exec k8slab-outside …   is on the link, as the router is
#   ip netns exec k8slab-client …    is beyond the router
#
# Nothing of it outlives the machine; embedded/host makes again what is missing.

uplink=$(setting k8s_lab_uplink_interface)
outside=$(setting embedded_outside_interface)
router=$(setting embedded_router_namespace)
client=$(setting embedded_client_namespace)
external_prefix=$(setting k8s_lab_external_ipv6_prefix)
client_prefix=$(setting embedded_client_ipv6_prefix)

# The router's link to the client, and the client's own.
downlink=to-client
client_link=eth0

# radvd's settings, process number and words.
radvd_dir=/run/$router
radvd_conf=$radvd_dir/radvd.conf
radvd_pid=$radvd_dir/radvd.pid

# address PREFIX HOST: the prefix's address with this host part, and its length.
address() {
    printf '%s%s/%s\n' "${1%/*}" "$2" "${1#*/}"
}

is_up() {
    [[ -e /run/netns/$1 ]]
}

# has NAMESPACE LINK ADDRESS
has() {
    is_up "$1" && ip -netns "$1" -6 -oneline address show dev "$2" scope global 2>/dev/null | grep --quiet --fixed-strings " $3 "
}

outside_stands() {
    has "$router" "$outside" "$(address "$external_prefix" 1)" &&
        has "$router" "$downlink" "$(address "$client_prefix" 1)" &&
        has "$client" "$client_link" "$(address "$client_prefix" a)"
}

# One end of a pair of virtual cables; the other stands for the network outside.
make_uplink() {
    ip link add "$uplink" type veth peer name "$outside"
    ip link set "$uplink" alias "$(setting embedded_mark)"
    # The machine itself is not on the network outside.
    ip link set "$uplink" addrgenmode none
    printf '0\n' >"/proc/sys/net/ipv6/conf/$uplink/accept_ra"
    ip link set "$uplink" up
}

# Whatever of it is there already.
make_outside() {
    local namespace
    for namespace in "$router" "$client"; do
        is_up "$namespace" || ip netns add "$namespace"
        ip -netns "$namespace" link set lo up
    done
    if [[ -e /sys/class/net/$outside ]]; then
        ip link set "$outside" netns "$router"
    fi
    if ! ip -netns "$router" link show "$downlink" >/dev/null 2>&1; then
        ip -netns "$router" link add "$downlink" type veth peer name "$client_link" netns "$client"
    fi
    ip netns exec "$router" sysctl --quiet --write net.ipv6.conf.all.forwarding=1
    attach "$router" "$outside" "$(address "$external_prefix" 1)"
    attach "$router" "$downlink" "$(address "$client_prefix" 1)"
    attach "$client" "$client_link" "$(address "$client_prefix" a)"
    local gateway
    gateway=$(address "$client_prefix" 1)
    ip -netns "$client" -6 route replace default via "${gateway%/*}"
}

# attach NAMESPACE LINK ADDRESS
attach() {
    ip -netns "$1" link set "$2" up
    ip -netns "$1" -6 address replace "$3" dev "$2" nodad
}

# A router that lives for half an hour without being heard of: clients beyond it are answered by the way they came.
radvd_settings() {
    cat <<SETTINGS
interface $outside {
    AdvSendAdvert on;
    MinRtrAdvInterval 3;
    MaxRtrAdvInterval 10;
    AdvDefaultLifetime 1800;
    AdvManagedFlag off;
    AdvOtherConfigFlag off;
    prefix $external_prefix {
        AdvOnLink on;
        AdvAutonomous on;
        AdvRouterAddr off;
    };
};
SETTINGS
}

# Runs in the router's namespace of today, with the settings of today.
announces() {
    radvd_runs && [[ $(<"$radvd_conf") == "$(radvd_settings)" ]] &&
        [[ $(ip netns identify "$(<"$radvd_pid")") == "$router" ]]
}

radvd_runs() {
    [[ -s $radvd_pid && $(cat "/proc/$(<"$radvd_pid")/comm" 2>/dev/null) == radvd ]]
}

start_announcing() {
    stop_announcing
    mkdir --parents "$radvd_dir"
    radvd_settings >"$radvd_conf"
    ip netns exec "$router" radvd --config "$radvd_conf" --pidfile "$radvd_pid" --logmethod logfile --logfile "$radvd_dir/radvd.log" ||
        fail "radvd does not start: see $radvd_dir/radvd.log"
}

# It takes its leave of its clients, so that they forget it.
stop_announcing() {
    ! radvd_runs || start-stop-daemon --stop --quiet --oknodo --retry 10 --pidfile "$radvd_pid" --name radvd
    rm --force --recursive "$radvd_dir"
}

# Whether the namespaces are there or anything of them.
outside_exists() {
    is_up "$router" || is_up "$client" || [[ -e $radvd_dir ]]
}

remove_outside() {
    stop_announcing
    local namespace
    for namespace in "$client" "$router"; do
        # Links in it go with it.
        ! is_up "$namespace" || ip netns delete "$namespace"
    done
}

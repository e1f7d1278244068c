# shellcheck shell=bash
# The cluster's network: a bridge in a namespace of its own is the switch; the control plane and each node hang on it
# by a veth pair. No interface, address or route is added to the host, and no namespace has a route to the host.

plug_in() { # NAMESPACE PORT ADDRESS
  ip netns add "$NETNS-$1"
  ip -n "$NETNS-$1" link set lo up
  ip link add eth0 netns "$NETNS-$1" type veth peer name "port-$1" netns "$NETNS-switch"
  ip -n "$NETNS-switch" link set "port-$1" master br0 up
  ip -n "$NETNS-$1" addr add "$2/24" dev eth0
  ip -n "$NETNS-$1" link set eth0 up
  # Not by `ip netns exec`: it mounts a fresh /sys, and the cgroups are not seen in it.
  nsenter --net="/run/netns/$NETNS-$1" sysctl -qw net.ipv4.ip_forward=1
  # So that kube-proxy's rules also see traffic between two pods of one node. Absent where br_netfilter is a module
  # that is not loaded.
  nsenter --net="/run/netns/$NETNS-$1" sysctl -qw net.bridge.bridge-nf-call-iptables=1 2>/dev/null || true
}

make_network() {
  ip netns add "$NETNS-switch"
  ip -n "$NETNS-switch" link set lo up
  ip -n "$NETNS-switch" link add br0 type bridge
  ip -n "$NETNS-switch" link set br0 up
  plug_in cp "$CONTROL_PLANE_IP"
  local i
  for ((i = 1; i <= NODES; i++)); do
    ip -n "$NETNS-cp" route add "$(pod_range "$i")" via "$(node_ip "$i")"
  done
  # Any route does for service addresses: the control plane's own kube-proxy rewrites them before they leave. In the
  # first 30 s, in which that one still waits for a node of its own name, node 1's does it.
  [ "$NODES" = 0 ] || ip -n "$NETNS-cp" route add "$SERVICE_RANGE" via "$(node_ip 1)"
  say "network: made"
}

plug_in_node() { # N
  local i
  plug_in "n$1" "$(node_ip "$1")"
  for ((i = 1; i <= $(node_count); i++)); do
    [ "$i" = "$1" ] || ip -n "$NETNS-n$1" route add "$(pod_range "$i")" via "$(node_ip "$i")"
  done
  # The way to service addresses, which kube-proxy rewrites; the control plane forwards nothing beyond the cluster.
  ip -n "$NETNS-n$1" route add default via "$CONTROL_PLANE_IP"
}

unplug_node() { # N: the veth goes with its namespace, and so does all that CNI and kube-proxy made in it
  [ ! -e "/run/netns/$NETNS-n$1" ] || ip netns del "$NETNS-n$1"
}

cable() { # N up|down
  ip -n "$NETNS-switch" link show "port-n$1" >/dev/null 2>&1 || die "node $1 has no power, so its cable carries nothing"
  ip -n "$NETNS-switch" link set "port-n$1" "$2"
  say "node $1: cable $2"
}

run_inside() { # CMD...: in the control plane's network, or with --on in a node's, with a resolv.conf for the cluster's names
  [ $# -gt 0 ] || usage_error "run what?"
  local place=cp names=$RUN/resolv.conf
  if [ -n "$ON" ]; then
    place=n$(node_argument "$ON")
    [ -e "/run/netns/$NETNS-$place" ] || die "node $ON has no power, so it has no network"
    names=$RUN/$place/run-resolv.conf
    sed "s/^nameserver .*/nameserver $DNS_SERVICE_IP/" "$RUN/resolv.conf" >"$names"
  fi
  export KUBECONFIG=$RUN/admin.kubeconfig # the host's 127.0.0.1 is not here
  # shellcheck disable=SC2016
  exec nsenter --net="/run/netns/$NETNS-$place" unshare --mount \
    sh -c 'mount --bind "$0" /etc/resolv.conf && exec "$@"' "$names" "$@"
}

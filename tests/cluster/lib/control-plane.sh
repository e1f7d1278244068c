# shellcheck shell=bash
# etcd, API server, controller manager, scheduler, provisioner; DNS and service addresses for `run`; and the one
# thing that the host sees: a port of 127.0.0.1 that leads to the API server.

spawn() { # NAME CMD...: in a session of its own, remembered under NAME; it survives this script
  local name=$1
  shift
  setsid "$@" >"$RUN/log/$name.log" 2>&1 </dev/null 9>&- &
  remember "$name" $!
}
beside_api() { local name=$1; shift; spawn "$name" nsenter --net="/run/netns/$NETNS-cp" "$@"; }

api_ready() {
  nsenter --net="/run/netns/$NETNS-cp" curl -sf --max-time 5 --cacert "$RUN/pki/ca.crt" --cert "$RUN/pki/admin.crt" \
    --key "$RUN/pki/admin.key" "https://$CONTROL_PLANE_IP:6443/readyz"
}

start_api() {
  mkdir -m 700 "$DISKS/etcd"
  beside_api etcd "$BIN/kubes" etcd --data-dir "$DISKS/etcd" --unsafe-no-fsync --log-level warn \
    --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
    --listen-peer-urls http://127.0.0.1:2380
  start_api_server
}

start_api_server() {
  local pki=$RUN/pki
  # InternalIP: else exec and logs look up the node's name, which no DNS knows.
  beside_api apiserver "$BIN/kubes" kube-apiserver \
    --etcd-servers=http://127.0.0.1:2379 --advertise-address=$CONTROL_PLANE_IP --secure-port=6443 \
    --tls-cert-file="$pki/apiserver.crt" --tls-private-key-file="$pki/apiserver.key" --client-ca-file="$pki/ca.crt" \
    --kubelet-client-certificate="$pki/admin.crt" --kubelet-client-key="$pki/admin.key" \
    --kubelet-certificate-authority="$pki/ca.crt" --kubelet-preferred-address-types=InternalIP \
    --requestheader-client-ca-file="$pki/ca.crt" --requestheader-allowed-names=front-proxy \
    --requestheader-username-headers=X-Remote-User --requestheader-group-headers=X-Remote-Group \
    --requestheader-extra-headers-prefix=X-Remote-Extra- --enable-aggregator-routing=true \
    --proxy-client-cert-file="$pki/aggregator.crt" --proxy-client-key-file="$pki/aggregator.key" \
    --service-account-issuer=https://kubernetes.default.svc --service-account-key-file="$pki/service-accounts.pub" \
    --service-account-signing-key-file="$pki/service-accounts.key" --service-cluster-ip-range=$SERVICE_RANGE \
    --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction --allow-privileged=true
  wait_for 60 "$RUN/log/apiserver.log" "the API server" api_ready
  say "API server: ready"
}

api_off() { # SIGKILL: whoever asks it is refused from now on
  local pid
  pid=$(pid_of apiserver) || die "the API server does not run"
  kill -9 "$pid"
  wait_for 20 "$RUN/log/apiserver.log" "the end of the API server" gone apiserver
  say "API server: off"
}

api_on() {
  gone apiserver || die "the API server already runs"
  locate_cache
  start_api_server
}

start_controllers() {
  # shellcheck disable=SC2046
  beside_api controllers "$BIN/kubes" kube-controller-manager $(as_component controllers) \
    --service-account-private-key-file="$RUN/pki/service-accounts.key" --root-ca-file="$RUN/pki/ca.crt" \
    --use-service-account-credentials=true \
    --cluster-signing-cert-file="$RUN/pki/ca.crt" --cluster-signing-key-file="$RUN/pki/ca.key" \
    --flex-volume-plugin-dir="$RUN/volume-plugins" --node-monitor-period=1s --node-monitor-grace-period="${NODE_GRACE:-12s}"
  # shellcheck disable=SC2046
  beside_api scheduler "$BIN/kubes" kube-scheduler $(as_component scheduler)
  beside_api provisioner "$BIN/provisioner" --kubeconfig="$RUN/admin.kubeconfig" --volumes="$DISKS/%s/lib/volumes"
}

as_component() { # NAME: the flags by which a component knows who it is
  printf -- '--%s=%s\n' kubeconfig "$RUN/$1.kubeconfig" authentication-kubeconfig "$RUN/$1.kubeconfig" \
    authorization-kubeconfig "$RUN/$1.kubeconfig" bind-address 127.0.0.1 leader-elect false
}

start_dns_for_run() { # pods have CoreDNS on their own node; `run` must not lose its DNS with a node
  printf 'search default.svc.cluster.local svc.cluster.local cluster.local\nnameserver %s\noptions ndots:5\n' \
    $CONTROL_PLANE_IP >"$RUN/resolv.conf"
  cat >"$RUN/Corefile" <<TEXT
.:53 {
    bind $CONTROL_PLANE_IP
    errors
    kubernetes cluster.local in-addr.arpa {
        kubeconfig $RUN/admin.kubeconfig
        ttl 2
    }
    cache 2
}
TEXT
  beside_api dns "$BIN/coredns" -conf "$RUN/Corefile"
}

start_services_for_run() { # kube-proxy for the control plane's own connections, as no node may be needed for them
  [ "$NODES" != 0 ] || return 0
  proxy_config control-plane $CONTROL_PLANE_IP >"$RUN/proxy.yaml"
  beside_api proxy "$BIN/kubes" kube-proxy --config="$RUN/proxy.yaml"
}

listening() { [ -n "$(ss -Hltn "sport = :$1")" ]; }

start_host_port() { # a unix socket crosses network namespaces; the first free port of the host leads to it
  beside_api api-inside socat "UNIX-LISTEN:$RUN/api.sock,fork,mode=600" TCP:127.0.0.1:6443
  local port
  for ((port = 16443; port < 16543; port++)); do
    listening "$port" && continue
    spawn api-outside socat "TCP-LISTEN:$port,bind=127.0.0.1,fork,reuseaddr" "UNIX-CONNECT:$RUN/api.sock"
    until listening "$port" || gone api-outside; do sleep 0.02; done
    gone api-outside && continue # another cluster took it first
    echo "$port" >"$RUN/port"
    kubeconfig_for admin "https://127.0.0.1:$port" "$RUN/kubeconfig"
    return
  done
  die "no free port between 16443 and 16542"
}

# shellcheck shell=bash
# Nodes, seen from the machine: power, images, and the configuration files that node-init.sh starts its daemons with.

node_count() { cat "$RUN/nodes"; }
node_argument() { # the checked number of a node
  [[ ${1:-} =~ ^[0-9]+$ ]] && [ "$1" -ge 1 ] && [ "$1" -le "$(node_count)" ] || usage_error "which node? 1 to $(node_count)"
  echo "$1"
}
powered() { pid_of "n$1" >/dev/null; }
powered_nodes() {
  local i
  for ((i = 1; i <= $(node_count); i++)); do powered "$i" && echo "$i"; done
  return 0
}
node_init() { # N: the pid, as the machine sees it, of the node's PID 1
  local unshare
  unshare=$(pid_of "n$1") && pgrep -P "$unshare" | head -n 1
}
inside_node() { # N CMD...
  local init
  init=$(node_init "$1") || die "node $1 has no power"
  shift
  nsenter -t "$init" --mount --pid --net --uts --ipc -- "$@"
}

node_process() { # N: its namespaces and, in them, its PID 1; everything in it dies with that one
  spawn "n$1" nsenter --net="/run/netns/$NETNS-n$1" \
    unshare --mount --pid --uts --ipc --fork --kill-child --mount-proc \
    bash "$HERE/lib/node-init.sh" "$1" "$RUN" "$DISKS/n$1" "$BIN" "$IMAGES" "$CGROUP/n$1"
}

start_node() { # N
  node_config "$1"
  plug_in_node "$1"
  node_process "$1"
}

power_on() { # N
  powered "$1" && die "node $1 already has power"
  locate_cache
  start_node "$1"
  say "node $1: power on"
}

power_off() { # N: SIGKILL for its PID 1: the kernel ends everything else in its PID namespace, nothing is flushed
  local init
  init=$(node_init "$1") || die "node $1 has no power"
  kill -9 "$init"
  wait_for 20 "$RUN/log/n$1.log" "the end of node $1" gone "n$1"
  clean_node "$1"
  say "node $1: power off"
}

clean_node() { # N: what a true machine forgets without power
  unplug_node "$1"
  remove_cgroups "$CGROUP/n$1"
  rm -f "$RUN/pid/n$1"
}

remove_cgroups() { # PATH below each hierarchy; the last tasks of a killed node may need a moment to leave
  local root
  for root in /sys/fs/cgroup /sys/fs/cgroup/*; do
    [ -d "$root/$1" ] && [ ! -L "$root" ] || continue
    wait_for 20 /dev/null "the end of cgroup $root/$1" remove_tree "$root/$1"
  done
}
remove_tree() { [ ! -d "$1" ] || find "$1" -depth -type d -exec rmdir {} +; }

load() { # IMAGE.tar...: into every node at once; one that is off would miss it later, so that is refused
  [ $# -gt 0 ] || usage_error "load which image tars?"
  local i file
  local -a imports=()
  for file in "$@"; do [ -r "$file" ] || die "cannot read $file"; done
  for ((i = 1; i <= $(node_count); i++)); do powered "$i" || die "node $i has no power: it would miss the images"; done
  for i in $(powered_nodes); do
    for file in "$@"; do inside_node "$i" ctr -n k8s.io images import - <"$file" >/dev/null || exit 1; done &
    imports+=($!)
  done
  for i in "${imports[@]}"; do wait "$i" || die "an import failed"; done
  say "loaded into $(node_count) nodes: ${*##*/}"
}

node_config() { # N: files in RUN/nN, read by node-init.sh
  local dir=$RUN/n$1
  mkdir -p "$dir/cni" "$DISKS/n$1"/{lib,log}
  : >"$dir/resolv.conf" # pods get cluster DNS only: nothing of the machine's
  cat >"$dir/cni/10-pods.conflist" <<JSON
{"cniVersion": "0.4.0", "name": "pods", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false, "hairpinMode": true,
   "ipam": {"type": "host-local", "ranges": [[{"subnet": "$(pod_range "$1")"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
JSON
  containerd_config "$dir" >"$dir/containerd.toml"
  kubelet_config "$1" "$dir" >"$dir/kubelet.yaml"
  proxy_config "n$1" 127.0.0.1 >"$dir/proxy.yaml"
}

containerd_config() { # DIR
  # restrict_oom_score_adj: root may lack CAP_SYS_RESOURCE (in a container it often does); then a negative
  # oom_score_adj is denied and every sandbox dies with "can't get final child's PID from pipe: EOF".
  # The opt plugin would make /opt/containerd, which all nodes and the host share.
  cat <<TOML
version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "/var/lib/containerd-opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "registry.test/pause:1"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$1/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
TOML
}

kubelet_config() { # N DIR
  # failCgroupV1: this machine's controllers are all in cgroup v1, which kubelet 1.34 still takes when told so.
  # oomScoreAdj: see containerd_config. volumePluginDir: the default lies in the host's /usr/libexec.
  # crashLoopBackOff: tests kill a container again and again, and what they look at is not how long the kubelet then waits.
  cat <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication:
  anonymous: {enabled: false}
  webhook: {enabled: true}
  x509: {clientCAFile: $RUN/pki/ca.crt}
authorization: {mode: Webhook}
tlsCertFile: $RUN/pki/n$1.crt
tlsPrivateKeyFile: $RUN/pki/n$1.key
cgroupDriver: cgroupfs
cgroupRoot: /$CGROUP/n$1
failCgroupV1: false
failSwapOn: false
oomScoreAdj: 0
protectKernelDefaults: false
clusterDNS: [$DNS_SERVICE_IP]
clusterDomain: cluster.local
resolvConf: $2/resolv.conf
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
volumePluginDir: /var/lib/kubelet/volume-plugins
serializeImagePulls: false
imageGCHighThresholdPercent: 100
evictionHard: {memory.available: 200Mi, nodefs.available: 1%, imagefs.available: 1%, nodefs.inodesFree: 1%}
nodeStatusUpdateFrequency: 4s
nodeLeaseDurationSeconds: 10
syncFrequency: 10s
featureGates: {KubeletCrashLoopBackOffMax: true}
crashLoopBackOff: {maxContainerRestartPeriod: 1s}
maxPods: 60
YAML
}

proxy_config() { # NODE-NAME ADDRESS-OF-HEALTH-AND-METRICS
  cat <<YAML
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clientConnection: {kubeconfig: $RUN/proxy.kubeconfig}
hostnameOverride: $1
bindAddress: 0.0.0.0
detectLocalMode: BridgeInterface
detectLocal: {bridgeInterface: cni0}
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
healthzBindAddress: $2:10256
metricsBindAddress: $2:10249
YAML
}

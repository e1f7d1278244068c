# shellcheck shell=bash
# Up and down of the whole, and what can be seen of it.

up() {
  # shellcheck disable=SC2086
  packages $NODE_PACKAGES
  build
  if [ -d "$RUN" ] && is_remains; then
    say "'$NAME' ended without \`down\`: takes away what it left"
    down
  fi
  mkdir -p "${RUN%/*}" "${DISKS%/*}"
  mkdir -m 711 "$RUN" 2>/dev/null || {
    echo "cluster: '$NAME' is already up (or half up): cluster --name $NAME down" >&2
    exit "$EXIT_STATE"
  }
  trap 'failed_up' EXIT
  locate_cache
  rm -rf --one-file-system "$DISKS" # what a power cut of this machine itself left, when /run forgot and the disk did not
  mkdir -p "$RUN/pid" "$RUN/log" "$DISKS"
  echo "$NODES" >"$RUN/nodes"
  make_pki
  make_network
  start_api
  start_host_port
  start_controllers
  start_dns_for_run
  local i
  for ((i = 1; i <= NODES; i++)); do start_node "$i"; done
  start_services_for_run
  kubectl() { "$BIN/kubectl" --kubeconfig="$RUN/kubeconfig" --cache-dir="$RUN/kubectl-cache" "$@"; }
  kubectl apply -f "$HERE/manifests" >/dev/null
  wait_for 60 "$RUN/log/controllers.log" "the controllers" kubectl -n default get serviceaccount default
  say "controllers: working"
  for ((i = 1; i <= NODES; i++)); do
    wait_for 90 "$RUN/log/n$i*.log" "node $i to be Ready" node_ready "$i"
  done
  if [ "$NODES" != 0 ]; then
    say "nodes: Ready"
    wait_for 90 "$RUN/log/n*-kubelet.log" "cluster DNS" dns_ready
  fi
  wait_for 30 "$RUN/log/dns.log" "DNS for run" run_resolves
  trap - EXIT
  say "up: export KUBECONFIG=$RUN/kubeconfig"
}

failed_up() { echo "cluster: '$NAME' is half up; see: cluster --name $NAME logs; then: cluster --name $NAME down" >&2; }
node_ready() {
  kubectl get node "n$1" -o 'jsonpath={.status.conditions[?(@.type=="Ready")].status}' | grep -qx True
}
dns_ready() {
  kubectl -n kube-system get daemonset coredns -o 'jsonpath={.status.numberReady}' | grep -qx "$NODES"
}
run_resolves() { (run_inside getent hosts kubernetes.default.svc.cluster.local); }

down() { # only what is in our own folders of pids; works at any half-way point, with nodes that have no power
  if [ ! -d "$RUN" ]; then echo "cluster: '$NAME' is not up" >&2; return; fi
  local file name pid
  for file in "$RUN"/pid/n[1-9]*; do
    [ -e "$file" ] || continue
    name=${file##*/}
    pid=$(node_init "${name#n}") && kill -9 "$pid" || true
  done
  for signal in TERM KILL; do
    for file in "$RUN"/pid/*; do
      [ -e "$file" ] && pid=$(pid_of "${file##*/}") && kill -"$signal" -- "-$pid" 2>/dev/null || true
    done
    [ "$signal" = KILL ] || soon all_gone || true
  done
  wait_for 20 /dev/null "the processes to end" all_gone
  for file in "$RUN"/pid/n[1-9]*; do
    [ ! -e "$file" ] || clean_node "${file##*/n}"
  done
  remove_cgroups "$CGROUP"
  for file in /run/netns/"$NETNS"-*; do
    [ ! -e "$file" ] || ip netns del "${file##*/}"
  done
  rm -rf --one-file-system "$RUN" "$DISKS"
  rmdir "${RUN%/*}" "${DISKS%/*}" 2>/dev/null || true # another cluster may still be in them
  say "down"
}

# Nothing of it runs, and it is not one that another `up` just begins: then there is no pid yet.
is_remains() { compgen -G "$RUN/pid/*" >/dev/null && all_gone; }

soon() { # CMD...: tried for up to three seconds
  local end=$((SECONDS + 3))
  until "$@"; do [ "$SECONDS" -lt "$end" ] || return 1; sleep 0.1; done
}
all_gone() {
  local file
  for file in "$RUN"/pid/*; do
    [ ! -e "$file" ] || gone "${file##*/}" || return 1
  done
}

memory_of() { # PID: resident MiB of its session
  ps -o rss= -s "$1" | awk '{s += $1} END {printf "%d MiB", s / 1024}'
}
status() {
  local file name pid
  echo "cluster $NAME: $(node_count) nodes, https://127.0.0.1:$(cat "$RUN/port"), KUBECONFIG=$RUN/kubeconfig"
  for file in "$RUN"/pid/*; do
    name=${file##*/}
    [[ $name == n[1-9]* ]] && continue
    if pid=$(pid_of "$name"); then printf '%-14s %s\n' "$name" "$(memory_of "$pid")"; else printf '%-14s ended\n' "$name"; fi
  done
  local i
  for ((i = 1; i <= $(node_count); i++)); do
    if pid=$(node_init "$i"); then
      printf '%-14s power on, cable %s, %s\n' "n$i" \
        "$(ip -n "$NETNS-switch" -j link show "port-n$i" | jq -r '.[0] | if .flags | index("UP") then "up" else "down" end')" \
        "$(nsenter -t "$pid" --mount --pid ps -e -o rss= | awk '{s += $1} END {printf "%d MiB", s / 1024}')"
    else
      printf '%-14s power off\n' "n$i"
    fi
  done
}

logs() { # [PART]
  if [ $# -gt 0 ]; then
    [ -e "$RUN/log/$1.log" ] || die "no log '$1'; there are: $(cd "$RUN/log" && echo *.log | sed 's/\.log//g')"
    cat "$RUN/log/$1.log"
  else
    tail -n 12 "$RUN"/log/*.log
  fi
}

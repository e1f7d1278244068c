# shellcheck shell=bash
# Names, words and waiting: what every other part uses.

KUBERNETES_VERSION=1.34.4
EXIT_USAGE=2 EXIT_STATE=3 EXIT_SKIPPED=77

# Addresses may be the same in every cluster: each has network namespaces of its own, and none has a way out.
CONTROL_PLANE_IP=10.89.0.2
SERVICE_RANGE=10.96.0.0/16
API_SERVICE_IP=10.96.0.1
DNS_SERVICE_IP=10.96.0.10
node_ip() { echo "10.89.0.$((10 + $1))"; }
pod_range() { echo "10.88.$1.0/24"; }

STARTED=$(date +%s%N)
say() { # one step is done, with the seconds since the start
  local ms=$((($(date +%s%N) - STARTED) / 1000000))
  printf '%4d.%ds  %s\n' $((ms / 1000)) $((ms % 1000 / 100)) "$*" >&2
}
die() { echo "cluster: $*" >&2; exit 1; }
usage_error() { echo "cluster: $* (see: cluster --help)" >&2; exit "$EXIT_USAGE"; }

settle_names() { # everything visible on the host carries the cluster's name
  [[ $NAME =~ ^[a-z][a-z0-9]{0,15}$ ]] || usage_error "--name must be 1 to 16 small letters and digits: '$NAME'"
  [[ $NODES =~ ^[0-9]$ ]] || usage_error "--nodes must be 0 to 9: '$NODES'"
  RUN=/run/rocketcluster/$NAME             # pids, logs, keys, sockets
  DISKS=/var/lib/rocketcluster-test/$NAME  # etcd's data and the nodes' disks: not in /run, which may be memory
  NETNS=rocket-$NAME                       # namespaces rocket-NAME-switch, -cp, -n1, ...
  CGROUP=rocketcluster-$NAME
}

need_root() {
  [ "$(id -u)" = 0 ] && return
  cat >&2 <<'TEXT'
cluster: SKIPPED: this needs root, to make network, mount and PID namespaces, cgroups and overlay mounts.
         Nothing was started and nothing was shown. Run it as root on a Debian-like machine with Go >= 1.26.
TEXT
  exit "$EXIT_SKIPPED"
}

need_up() {
  [ -d "$RUN/pid" ] && return
  echo "cluster: '$NAME' is not up" >&2
  exit "$EXIT_STATE"
}

wait_for() { # SECONDS LOGS WHAT COMMAND...: until COMMAND succeeds; else shows the ends of the logs (a glob) and fails
  local end=$((SECONDS + $1)) logs=$2 what=$3 log
  shift 3
  until "$@" >/dev/null 2>&1; do
    if [ "$SECONDS" -ge "$end" ]; then
      for log in $logs; do [ ! -s "$log" ] || { echo "--- the end of $log"; tail -n 15 "$log"; } >&2; done
      die "waited in vain for: $what"
    fi
    sleep 0.1
  done
}

# A process is known by its pid and its start time, so that a pid that the kernel gave to another is never killed.
stat_of() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null; } # from its state on: the name before may hold anything
started_at() { stat_of "$1" | cut -d' ' -f20; }
remember() { echo "$2 $(started_at "$2")" >"$RUN/pid/$1"; }
pid_of() { # NAME: its pid, if it still is the process that we started
  local pid start stat
  read -r pid start 2>/dev/null <"$RUN/pid/$1" || return 1
  stat=$(stat_of "$pid") && [ -n "$start" ] && [[ $stat != Z* ]] && [ "$(cut -d' ' -f20 <<<"$stat")" = "$start" ] || return 1
  echo "$pid"
}
gone() { ! pid_of "$1" >/dev/null; }

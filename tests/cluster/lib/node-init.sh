#!/usr/bin/env bash
# PID 1 of a node, in namespaces of its own (mount, PID, UTS, IPC, network): gives itself a node's file systems, starts
# containerd, kubelet and kube-proxy, and reaps orphans. There is no systemd: the daemons are its plain children.
#   node-init.sh N RUN DISK BIN IMAGES CGROUP
set -euo pipefail
N=$1 RUN=$2 DISK=$3 BIN=$4 IMAGES=$5 CGROUP=$6
CONFIG=$RUN/n$N

own_sys() { # /sys of this network namespace, with the machine's cgroups on it
  mkdir -p "$CONFIG/cgroup"
  mount --rbind /sys/fs/cgroup "$CONFIG/cgroup"
  mount -t sysfs sysfs /sys
  mount --rbind "$CONFIG/cgroup" /sys/fs/cgroup
  umount -l "$CONFIG/cgroup"
}

own_disk() { # all of /var/lib and /var/log: so nothing of the host's is seen or written
  mkdir -p "$DISK/lib"/{kubelet,containerd,containerd-opt,cni,volumes} "$DISK/log"/{pods,containers}
  mount --bind "$DISK/log" /var/log
  mount --bind "$DISK/lib" /var/lib
}

own_run() { # an empty /run, with the cluster's folder still at its place in it
  mkdir -p "$CONFIG/run"
  mount -t tmpfs -o mode=755 tmpfs "$CONFIG/run"
  mkdir -p "$CONFIG/run/mount" "$CONFIG/run/lock" "$CONFIG/run/${RUN#/run/}"
  mount --bind "$RUN" "$CONFIG/run/${RUN#/run/}"
  mount -n --move "$CONFIG/run" /run # -n: mount's own notes lie in the /run that just went away
}

# The kubelet sets these when they differ, and they are the whole machine's. It finds them as it wants them instead.
calm_kubelet() {
  local name value
  while read -r name value; do
    [ -e "/proc/sys/$name" ] || continue
    echo "$value" >"$CONFIG/sysctl-${name//\//-}"
    mount --bind "$CONFIG/sysctl-${name//\//-}" "/proc/sys/$name"
  done <<TEXT
vm/overcommit_memory 1
vm/panic_on_oom 0
kernel/panic 10
kernel/panic_on_oops 1
kernel/keys/root_maxkeys 1000000
kernel/keys/root_maxbytes 25000000
TEXT
}

own_cgroups() {
  local hierarchy level file
  if [ -e /sys/fs/cgroup/cgroup.controllers ]; then # version 2: controllers are handed down level by level
    mkdir -p "/sys/fs/cgroup/$CGROUP"
    for level in "" "/${CGROUP%/*}" "/$CGROUP"; do
      for file in $(cat "/sys/fs/cgroup$level/cgroup.controllers"); do
        echo "+$file" >"/sys/fs/cgroup$level/cgroup.subtree_control" || true
      done
    done
    return
  fi
  for hierarchy in /sys/fs/cgroup/*/; do
    [ -e "$hierarchy/cgroup.controllers" ] || mkdir -p "$hierarchy/$CGROUP"
  done
  for level in "${CGROUP%/*}" "$CGROUP"; do # version 1: a new cpuset is empty and takes no task
    for file in cpuset.cpus cpuset.mems; do
      cat "/sys/fs/cgroup/cpuset/$file" >"/sys/fs/cgroup/cpuset/$level/$file"
    done
  done
  echo 1 >"/sys/fs/cgroup/memory/${CGROUP%/*}/memory.use_hierarchy" 2>/dev/null || true
}

supervise() { # NAME CMD...: started again when it ends, as systemd would
  local log=$RUN/log/n$N-$1.log
  shift
  while :; do
    "$@" || true
    echo "--- ended; again in a second"
    sleep 1
  done >>"$log" 2>&1 &
}

hostname "n$N"
mount --make-rprivate /
own_sys
own_disk
own_run
calm_kubelet
mount --make-rshared / # volumes that the kubelet mounts must reach the containers
own_cgroups

supervise containerd containerd -c "$CONFIG/containerd.toml"
until [ -S /run/containerd/containerd.sock ] && ctr version >/dev/null 2>&1; do sleep 0.1; done
present=$(ctr -n k8s.io images ls -q)
for tar in "$IMAGES"/*.tar; do
  image=registry.test/$(basename "$tar" .tar):1
  grep -qx "$image" <<<"$present" || ctr -n k8s.io images import "$tar"
done
supervise kubelet "$BIN/kubes" kubelet --config="$CONFIG/kubelet.yaml" --kubeconfig="$RUN/n$N.kubeconfig" \
  --node-ip="10.89.0.$((10 + N))" --hostname-override="n$N" --v=2
supervise proxy "$BIN/kubes" kube-proxy --config="$CONFIG/proxy.yaml"
while :; do wait -n 2>/dev/null || sleep 1; done

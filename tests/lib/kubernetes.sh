# Sourced by tests/demo and the cluster tests: the Kubernetes to work on, this project's images and chart on it.
# shellcheck shell=bash

CLUSTER=$ROOT/tests/cluster/cluster
IMAGES=$ROOT/target/images

# use_cluster NAME: the user's own cluster when KUBECONFIG names one, else the local one of that name.
use_cluster() {
  CLUSTER_NAME=$1
  export CLUSTER_NAME
  if [ -n "${KUBECONFIG:-}" ]; then
    OWN_CLUSTER=1
    need_commands kubectl helm
    KUBECTL=$(command -v kubectl) HELM=$(command -v helm)
    say "using the cluster of KUBECONFIG=$KUBECONFIG: $($KUBECTL config current-context)"
  else
    OWN_CLUSTER=
    [ "$(id -u)" = 0 ] || die "a local Kubernetes needs root (network namespaces, mounts); or set KUBECONFIG to a cluster of yours"
  fi
}

start_cluster() {
  [ -z "$OWN_CLUSTER" ] || { kubectl version; return; }
  "$CLUSTER" tools
  "$CLUSTER" up || [ $? = 3 ]        # 3: it is up already, which serves as well
}

# Once the local cluster is up: where its programs and its kubeconfig are.
find_cluster() {
  [ -z "$OWN_CLUSTER" ] || return 0
  KUBECONFIG=$("$CLUSTER" kubeconfig); export KUBECONFIG
  KUBE_BIN=${KUBE_BIN:-$("$CLUSTER" tools 2>/dev/null | tail -n 1)}
  KUBECTL=$KUBE_BIN/kubectl HELM=$KUBE_BIN/helm
}
kubectl() { find_cluster; "$KUBECTL" "$@"; }
helm() { find_cluster; "$HELM" "$@"; }

make_images() { "$ROOT/tests/cluster/build-images" "$IMAGES" "$PROGRAMS/rocket-broker" "$PROGRAMS/rocket-operator" "$VERSION"; }

load_images() {
  if [ -z "$OWN_CLUSTER" ]; then "$CLUSTER" load "$IMAGES/broker.tar" "$IMAGES/operator.tar"; return; fi
  local context i; context=$(kubectl config current-context)
  for i in broker operator; do
    case $context in
      kind-*) kind load image-archive "$IMAGES/$i.tar" --name "${context#kind-}" ;;
      minikube*) minikube image load "$IMAGES/$i.tar" ;;
      *) echo "push rocketcluster/$i:$VERSION to where the nodes of $context pull from; $IMAGES/$i.tar is a docker-archive" ;;
    esac
  done
}

install_operator() { # further helm arguments
  helm upgrade --install rocket-operator "$ROOT/charts/rocket-operator" --namespace rocket-system --create-namespace --wait --timeout 120s "$@"
}

# in_cluster CMD...: a program of this machine inside the cluster's network, with its DNS.
in_cluster() {
  [ -z "$OWN_CLUSTER" ] || die "programs of this machine cannot enter your cluster's network; run the client in a pod of yours against $NAMESRV"
  "$CLUSTER" run "$@"
}

OFFICIAL_CLIENT=$PROGRAMS/official-client
official_client() {
  cd "$ROOT" && cargo build --release --locked -p conformance --bin official-client || return
  install -m 755 "$CARGO_TARGET_DIR/$(rustc -vV | sed -n 's/^host: //p')/release/official-client" "$OFFICIAL_CLIENT"
  "$OFFICIAL_CLIENT" "$@"
}

# A Prometheus inside the cluster's network scrapes operator and brokers twice; a few of the samples are printed.
show_metrics() {
  [ -z "$OWN_CLUSTER" ] || { kubectl get --raw /api/v1/namespaces/default/pods/quickstart-0-0:5557/proxy/metrics | grep -E '^rocketmq?_(messages|disk|role)' | head -n 20; return; }
  local dir; dir=$(mktemp -d)
  cat >"$dir/prometheus.yml" <<Y
global: {scrape_interval: 1s}
scrape_configs:
- job_name: broker
  dns_sd_configs: [{names: [quickstart-0-replicas.default.svc.cluster.local], type: A, port: 5557, refresh_interval: 1s}]
- job_name: operator
  dns_sd_configs: [{names: [rocket-operator-metrics.rocket-system.svc.cluster.local], type: A, port: 8080, refresh_interval: 1s}]
Y
  # Not through in_cluster: in the background a function is a shell of its own, and ending that would leave Prometheus running.
  "$CLUSTER" run prometheus --config.file="$dir/prometheus.yml" --storage.tsdb.path="$dir/data" --web.listen-address=127.0.0.1:9090 >"$LOGS/prometheus.log" 2>&1 &
  local pid=$! query status=0
  for query in 'up' 'sum(rocketmq_messages_in_total) by (topic)' 'sum(rocketmq_messages_out_total) by (topic)' 'rocket_disk_used_bytes' 'rocket_operator_cluster_condition{type="Ready"}'; do
    ask_prometheus "$query" || status=1
  done
  kill "$pid" 2>/dev/null || true; wait "$pid" 2>/dev/null || true
  rm -rf "$dir"
  return "$status"
}
ask_prometheus() { # query: waits up to 20 s for an answer that is not empty
  local end=$((SECONDS + 20)) answer
  while [ "$SECONDS" -lt "$end" ]; do
    answer=$(in_cluster curl -sG --max-time 2 --data-urlencode "query=$1" http://127.0.0.1:9090/api/v1/query 2>/dev/null |
      jq -r '.data.result[]? | "\(.metric | del(.__name__) | to_entries | map("\(.key)=\(.value)") | join(","))  \(.value[1])"' 2>/dev/null)
    [ -z "$answer" ] || { printf '  %s\n' "$1"; printf '%s\n' "$answer" | sed 's/^/    /'; return; }
    sleep 0.5
  done
  echo "  $1: no sample"; return 1
}

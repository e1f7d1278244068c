# shellcheck shell=bash
# One certificate authority per cluster, made at `up` and gone at `down`, and a kubeconfig for each component.

new_key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1.key"; }

certificate() { # NAME SUBJECT [SUBJECT-ALTERNATIVE-NAMES]
  new_key "$1"
  openssl req -new -key "$1.key" -subj "$2" -out "$1.csr" 2>/dev/null
  openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -out "$1.crt" \
    -extfile <(printf 'extendedKeyUsage=serverAuth,clientAuth\n%s\n' "${3:+subjectAltName=$3}") 2>/dev/null
}

kubeconfig_for() { # NAME SERVER FILE
  cat >"$3" <<YAML
apiVersion: v1
kind: Config
clusters:
- name: $NAME
  cluster: {server: "$2", certificate-authority-data: $(base64 -w0 "$RUN/pki/ca.crt")}
users:
- name: $1
  user:
    client-certificate-data: $(base64 -w0 "$RUN/pki/$1.crt")
    client-key-data: $(base64 -w0 "$RUN/pki/$1.key")
contexts:
- name: $NAME
  context: {cluster: $NAME, user: $1}
current-context: $NAME
YAML
}

make_pki() (
  mkdir -p "$RUN/pki" && cd "$RUN/pki" || exit
  new_key ca
  openssl req -x509 -new -key ca.key -subj "/CN=rocketcluster-$NAME" -days 30 -out ca.crt 2>/dev/null
  local service=kubernetes names i
  for i in '' .default .default.svc .default.svc.cluster.local; do names+="DNS:$service$i,"; done
  certificate apiserver /CN=kube-apiserver "${names}DNS:localhost,IP:127.0.0.1,IP:$CONTROL_PLANE_IP,IP:$API_SERVICE_IP"
  certificate admin /O=system:masters/CN=admin
  certificate controllers /CN=system:kube-controller-manager
  certificate scheduler /CN=system:kube-scheduler
  certificate proxy /CN=system:kube-proxy
  certificate aggregator /CN=front-proxy
  for ((i = 1; i <= NODES; i++)); do
    certificate "n$i" "/O=system:nodes/CN=system:node:n$i" "DNS:n$i,IP:$(node_ip "$i")"
    kubeconfig_for "n$i" "https://$CONTROL_PLANE_IP:6443" "$RUN/n$i.kubeconfig"
  done
  openssl genrsa -out service-accounts.key 2048 2>/dev/null
  openssl rsa -in service-accounts.key -pubout -out service-accounts.pub 2>/dev/null
  for i in admin controllers scheduler proxy; do
    kubeconfig_for "$i" "https://$CONTROL_PLANE_IP:6443" "$RUN/$i.kubeconfig"
  done
  say "keys and certificates: made"
)

# shellcheck shell=bash
# The programs of the cluster from their Go modules, and the images that its nodes start with. Both are kept in the
# user's cache under a stamp of everything that they are made from.

stamp() {
  cd "$HERE" && {
    find go.mod go.sum kubes coredns provisioner pause image.py lib/build.sh -type f | LC_ALL=C sort | xargs sha256sum
    go env GOVERSION GOARCH
    sha256sum </bin/busybox
  } | sha256sum | cut -c1-16
}

locate_cache() { # sets CACHE, BIN and IMAGES
  command -v go >/dev/null || die "needs go >= 1.26"
  local cache=${XDG_CACHE_HOME:-$HOME/.cache}/rocketcluster/cluster
  case $cache in /var/lib/* | /var/log/* | /run/*) die "the cache may not lie in $cache: nodes have their own there" ;; esac
  mkdir -p "$cache"
  CACHE=$cache/$(stamp) BIN=$cache/$(stamp)/bin IMAGES=$cache/$(stamp)/images
}

build() {
  locate_cache
  if [ -e "$CACHE/complete" ]; then say "programs and images: cached in $CACHE"; return; fi
  (
    flock 9 # two starts beside each other build once
    if [ ! -e "$CACHE/complete" ]; then
      mkdir -p "$BIN" "$IMAGES"
      build_programs
      make_images
      touch "$CACHE/complete"
    fi
  ) 9>"${CACHE%/*}/lock"
}

build_programs() {
  cd "$HERE" || exit
  local minor=${KUBERNETES_VERSION#1.} flags="-s -w" package
  minor=${minor%%.*}
  for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do # else the server calls itself v0.0.0
    flags+=" -X $package.gitVersion=v$KUBERNETES_VERSION -X $package.gitMajor=1 -X $package.gitMinor=$minor"
    flags+=" -X $package.gitTreeState=clean"
  done
  export CGO_ENABLED=0
  # One program for all components: they share most of their packages, so it compiles and links once.
  go build -trimpath -buildvcs=false -ldflags="$flags" -o "$BIN/kubes" ./kubes 9>&-
  ln -sf kubes "$BIN/kubectl"
  say "kubernetes and etcd: built"
  # Helm takes the version that charts see from here when it talks to no cluster.
  flags="-s -w"
  for package in helm.sh/helm/v3/pkg/chartutil helm.sh/helm/v3/pkg/lint/rules; do
    flags+=" -X $package.k8sVersionMajor=1 -X $package.k8sVersionMinor=$minor"
  done
  flags+=" -X helm.sh/helm/v3/internal/version.version=$(go list -m -f '{{.Version}}' helm.sh/helm/v3)"
  go build -trimpath -buildvcs=false -ldflags="$flags" -o "$BIN/" ./coredns ./provisioner helm.sh/helm/v3/cmd/helm 9>&-
  gcc -O2 -static -o "$BIN/pause" pause/main.c
  say "coredns, provisioner, helm, pause: built"
}

make_images() {
  python3 "$HERE/image.py" "$IMAGES/pause.tar" registry.test/pause:1 "$BIN/pause=/pause" --entrypoint /pause
  python3 "$HERE/image.py" "$IMAGES/coredns.tar" registry.test/coredns:1 "$BIN/coredns=/coredns" --entrypoint /coredns
  python3 "$HERE/image.py" "$IMAGES/busybox.tar" registry.test/busybox:1 /bin/busybox=/bin/busybox --applets --cmd /bin/sh
  say "images: made"
}

tools() {
  # shellcheck disable=SC2086
  packages $NODE_PACKAGES $TOOL_PACKAGES
  build
  echo "$BIN"
}

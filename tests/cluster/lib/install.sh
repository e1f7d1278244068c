# shellcheck shell=bash
# Debian packages: what a node is made of (containerd 1.6, runc, CNI plugins, nftables), and the tests' own tools.

NODE_PACKAGES="containerd runc containernetworking-plugins iptables nftables conntrack iproute2 ethtool util-linux
  procps openssl busybox-static socat jq curl python3 gcc libc6-dev"
TOOL_PACKAGES="buildah prometheus"

installed() { # PACKAGE...: dpkg -s alone also says yes to a package removed but not purged
  # shellcheck disable=SC2046
  [ $(dpkg-query -W -f '${db:Status-Status}\n' "$@" 2>/dev/null | grep -cx installed) = $# ]
}

packages() { # PACKAGE...
  # shellcheck disable=SC2086
  set -- $* # split the lists into names
  if installed "$@"; then say "packages: already there"; return; fi
  command -v apt-get >/dev/null || die "needs apt-get, or these packages: $*"
  # containerd's and prometheus' packages start their daemons when installed. Debian's own switch against it is
  # policy-rc.d; many container images bring one, elsewhere one is put there for the length of this call.
  local policy=/usr/sbin/policy-rc.d ours="" log
  if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
    ours=1
  fi
  log=$(mktemp)
  local result=0
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"; } \
    >"$log" 2>&1 || result=$?
  [ -z "$ours" ] || rm -f "$policy"
  [ "$result" = 0 ] || { tail -n 25 "$log" >&2; rm -f "$log"; die "apt-get could not install: $*"; }
  rm -f "$log"
  say "packages: installed"
}

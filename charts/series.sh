# Sourced by the tests of alerts and dashboard: which series are exported, and which are spoken of.
# shellcheck shell=bash

# By the pages that tests hold to the programs. A histogram is three series.
exported() {
  sed -n 's/^| `\([a-z0-9_]*\)` | \([a-z]*\) |.*/\1 \2/p' "$ROOT/docs/metrics.md" "$ROOT/docs/operator-metrics.md" |
    awk '{ print $1 } $2 == "histogram" { print $1 "_bucket"; print $1 "_sum"; print $1 "_count" }'
}
spoken_of() { grep -ohE '\b(process|rocket(mq)?)_[a-z0-9_]+' "$@" | sort -u; }
all_exported() { # FILE...
  local unknown
  unknown=$(comm -23 <(spoken_of "$@") <(exported | sort -u))
  [ -z "$unknown" ] || { echo "exported by no program: $unknown"; return 1; }
}

# Debian's packages of these tests, when a command of theirs is missing.
need_tools() { # COMMAND:PACKAGE...
  local tool missing=()
  for tool in "$@"; do command -v "${tool%:*}" >/dev/null || missing+=("${tool#*:}"); done
  [ ${#missing[@]} != 0 ] || return 0
  [ "$(id -u)" = 0 ] || { echo "SKIPPED: needs the packages ${missing[*]}: install them, or run as root"; exit 77; }
  packages "${missing[@]}"
}

passed=0 failed=0
work=$(mktemp -d)
check() { # WHAT COMMAND...
  local what=$1
  shift
  if "$@" >"$work/output" 2>&1; then
    passed=$((passed + 1)) && printf 'ok    %s\n' "$what"
  else
    failed=$((failed + 1)) && printf 'FAIL  %s\n' "$what"
    tail -n 40 "$work/output" | sed 's/^/      | /'
  fi
}
fails() { ! "$@"; }

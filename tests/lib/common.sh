# Sourced by tests/run and tests/demo: where things are, how a step is told, how the programs are built once.
# shellcheck shell=bash

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/rocketcluster
PROGRAMS=$ROOT/target/programs      # the stripped-down result of a build: what images and tests use
LOGS=$ROOT/target/logs
# Build outputs outlive a clone: a fresh clone on a machine that has built before compiles this repository's own packages only.
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$CACHE/target}
export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-never}
VERSION=$(sed -n 's/^version = "\(.*\)"/\1/p' "$ROOT/Cargo.toml" | head -1)
mkdir -p "$LOGS" "$PROGRAMS" "$CACHE"

STARTED=$(date +%s)
elapsed() { local s=$(($(date +%s) - STARTED)); printf '%d:%02d' $((s / 60)) $((s % 60)); }
say() { printf '[%s] %s\n' "$(elapsed)" "$*"; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# step NAME COMMAND...: runs it with its output in a log; tells the time; on failure shows the end of the log and returns its status.
step() {
  local name=$1 log=$LOGS/${1//[^A-Za-z0-9]/-}.log begin status=0; shift
  begin=$(date +%s)
  say "$name ..."
  "$@" >"$log" 2>&1 </dev/null || status=$?
  if [ "$status" = 0 ]; then say "$name: done in $(($(date +%s) - begin)) s"
  else
    say "$name: FAILED (status $status) after $(($(date +%s) - begin)) s; the end of $log:"
    tail -n "${TAIL:-60}" "$log" | sed 's/^/    /'
  fi
  return "$status"
}

# limited SECONDS COMMAND...: ends what does not end by itself, after telling what it was doing: a test that hangs is named and fails.
limited() {
  local seconds=$1 pid watch status=0; shift
  set -m
  "$@" &
  pid=$!
  {
    sleep "$seconds"
    echo "not done after $seconds s, ended; its threads (a test's is named after it):"
    ps -L -o pid,lwp,stat,time,wchan:24,comm -p "$(pgrep -d, -g "$pid")"
    kill -TERM -- "-$pid"; sleep 10; kill -KILL -- "-$pid" 2>/dev/null
  } &
  watch=$!
  set +m
  # shellcheck disable=SC2064 # these two, now
  trap "kill -TERM -- -$pid -$watch 2>/dev/null; exit 130" INT TERM
  wait "$pid" || status=$?
  trap - INT TERM
  kill -TERM -- "-$watch" 2>/dev/null
  # Ended, it may have left what does not end so.
  if [ "$status" = 143 ] && pgrep -g "$pid" >/dev/null; then sleep 10; kill -KILL -- "-$pid" 2>/dev/null; fi
  return "$status"
}

# Debian packages by name; says what is missing when we may not install.
need_packages() {
  local missing=()
  for p in "$@"; do dpkg -s "$p" >/dev/null 2>&1 || missing+=("$p"); done
  [ ${#missing[@]} = 0 ] && return 0
  [ "$(id -u)" = 0 ] || { echo "missing packages: ${missing[*]}; install them or run as root" >&2; return 77; }
  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
}

need_commands() {
  local c
  for c in "$@"; do command -v "$c" >/dev/null || die "$c is not on PATH; see README.md, section 'What you need'"; done
}

# Cargo takes what another clone of the same sources left in a shared folder for its own, with that clone's path in it (env!): it builds
# anew what is newer than the build.
own_builds() {
  local of=$CARGO_TARGET_DIR/built-from
  [ "$(cat "$of" 2>/dev/null)" = "$ROOT" ] && return
  find "$ROOT/broker" "$ROOT/operator" "$ROOT/tests" -name '*.rs' -exec touch {} + && mkdir -p "$CARGO_TARGET_DIR" && echo "$ROOT" >"$of"
}

# Builds the programs once, static, and puts them into $PROGRAMS.
build_programs() {
  own_builds || return
  cd "$ROOT" && cargo build --release --locked --bins || return
  local host out; host=$(rustc -vV | sed -n 's/^host: //p'); out=$CARGO_TARGET_DIR/$host/release
  local b
  for b in rocket-broker rocket-operator rocket-bench; do
    [ -x "$out/$b" ] && install -m 755 "$out/$b" "$PROGRAMS/$b.new" && mv "$PROGRAMS/$b.new" "$PROGRAMS/$b"
  done
  ls -l "$PROGRAMS"
}

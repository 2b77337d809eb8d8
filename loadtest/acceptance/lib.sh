# What the acceptance scripts share: a kpa of their own with its ports, state and services, checks, and cleaning up.
# Sourced, not run. KPA and LOADTEST name the binaries; default: the newest of target/dist, release and debug.

set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)

newest() {
  local found
  found=$(ls -t "$root"/target/{dist,release,debug}/"$1" 2>/dev/null | head -n1)
  [[ -n "$found" ]] || { echo "no $1: build it (cargo build), or name it with the variable ${1^^}" >&2; exit 2; }
  echo "$found"
}

kpa_bin=${KPA:-$(newest kpa)}
loadtest_bin=${LOADTEST:-$(newest loadtest)}
for tool in jq curl; do command -v "$tool" >/dev/null || { echo "$tool is not installed" >&2; exit 2; }; done

work=$(mktemp -d "${TMPDIR:-/tmp}/kpa-acceptance.XXXXXX")
mkdir "$work/services"
# Outside the ephemeral range, and another pair for each script that runs at the same time.
base=$((10000 + $$ % 5000 * 2))
proxy="127.0.0.1:$base"
admin="127.0.0.1:$((base + 1))"
kpa_pid=""
failures=0

# Milliseconds since the epoch.
now_ms() { echo $((${EPOCHREALTIME/[.,]/} / 1000)); }

say() { printf '%s\n' "$*"; }

# check WHAT COMMAND...: counts a failure when the command fails.
check() {
  local what=$1
  shift
  if "$@"; then say "  ok    $what"; else say "  WRONG $what"; failures=$((failures + 1)); fi
}

# between LOW VALUE HIGH, whole numbers.
between() { (($1 <= $2 && $2 <= $3)); }

# wait_for SECONDS COMMAND...: until the command succeeds, looking every 50 ms.
wait_for() {
  local until=$(($(now_ms) + $1 * 1000))
  shift
  until "$@"; do
    (($(now_ms) < until)) || return 1
    sleep 0.05
  done
}

finish() {
  if ((failures == 0)); then say "PASS $(basename "$0")"; exit 0; fi
  say "FAIL $(basename "$0"): $failures checks"
  exit 1
}

cleanup() {
  local status=$?
  trap - EXIT
  # Load that this script left behind is a child of it.
  jobs -p | while read -r job; do [[ "$job" == "$kpa_pid" ]] || kill "$job" 2>/dev/null || true; done
  stop_kpa
  if [[ -f "$work/starts" ]]; then
    while read -r pid _; do if is_replica "$pid"; then kill -KILL "$pid" || true; fi; done <"$work/starts"
  fi
  if ((status != 0)) && [[ -f "$work/kpa.log" ]]; then
    say "--- the last lines of kpa's log"
    tail -n 40 "$work/kpa.log"
  fi
  rm -rf "$work"
  exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# What replicas run, and the program that such a process is.
server=("$loadtest_bin" model-server)
server_program=$(readlink -f "$loadtest_bin")

# serve_python FILE ARGS...: from here on replicas run this script, which lies beside the acceptance scripts. It needs
# nothing but Python itself, and is not told of site packages, so that it starts sooner.
serve_python() {
  command -v python3 >/dev/null || { echo "python3 is not installed" >&2; exit 2; }
  python=$(python3 -c 'import sys; print(sys.executable)')
  server=("$python" -SE "$here/$1" "${@:2}")
  server_program=$(readlink -f "$python")
}

# service NAME [annotation|env] KEY VALUE ...: writes a Deployment that runs the sample model server, or what serve_python
# said. Its replicas note their process, port and start in $work/starts, and run $work/at-start if a script has put one
# there.
service() {
  local name=$1 annotations="" env="" replicas="${REPLICAS:-}"
  shift
  while (($# > 0)); do
    case $1 in
      annotation) annotations+="    $2: \"$3\""$'\n' ;;
      env) env+="            - {name: $2, value: \"$3\"}"$'\n' ;;
      *) echo "service: $1?" >&2; exit 2 ;;
    esac
    shift 3
  done
  cat >"$work/replica.sh" <<END
#!/usr/bin/env bash
echo "\$\$ \$PORT \$((\${EPOCHREALTIME/[.,]/} / 1000))" >>"$work/starts"
if [[ -f "$work/at-start" ]]; then source "$work/at-start"; fi
exec ${server[*]@Q}
END
  chmod +x "$work/replica.sh"
  cat >"$work/services/$name.yaml.new" <<END
apiVersion: apps/v1
kind: Deployment
metadata:
  name: $name
  namespace: default
  annotations:
${annotations}    kpa.dev/local-command: "$work/replica.sh"
spec:
${replicas:+  replicas: $replicas
}  selector: {matchLabels: {app: $name}}
  template:
    metadata: {labels: {app: $name}}
    spec:
      terminationGracePeriodSeconds: 5
      containers:
        - name: model
          image: kpa-loadtest:latest
          ports: [{containerPort: 8080}]
          env:
            - {name: FAIL_RATE, value: "0"}
${env}          readinessProbe: {httpGet: {path: /healthz, port: 8080}}
END
  # One rename, so that whoever follows the folder never reads half a file.
  mv "$work/services/$name.yaml.new" "$work/services/$name.yaml"
}

# start_kpa [PATH|FLAG...]: without words, with the services written here.
start_kpa() {
  (($# > 0)) || set -- "$work/services"
  "$kpa_bin" run --listen "$proxy" --admin "$admin" --state-dir "$work/state" "$@" >>"$work/kpa.log" 2>&1 &
  kpa_pid=$!
  wait_for 30 curl -sf -o /dev/null "http://$admin/ready" || { say "kpa does not get ready"; exit 1; }
}

stop_kpa() {
  [[ -n "$kpa_pid" ]] || return 0
  kill "$kpa_pid" 2>/dev/null || true
  wait_for 20 gone "$kpa_pid" || kill -KILL "$kpa_pid" 2>/dev/null || true
  wait "$kpa_pid" 2>/dev/null || true
  kpa_pid=""
}

# Whether the process has ended; a zombie has.
gone() { [[ ! -d "/proc/$1" ]] || grep -q '^State:\s*Z' "/proc/$1/status" 2>/dev/null; }

# Whether the process is a live server of ours: a number alone may have been given to somebody else since.
is_replica() {
  ! gone "$1" && [[ "$(readlink "/proc/$1/exe")" == "$server_program" ]]
}

# status NAME JQ: a value of the revision's status, empty while there is none.
status() {
  curl -sf --max-time 5 "http://$admin/v1/revisions/default/$1" | jq -r "$2" 2>/dev/null || true
}

# is NAME JQ VALUE
is() { [[ "$(status "$1" "$2")" == "$3" ]]; }

asleep() { is "$1" '"\(.replicas) \(.ready)"' "0 0"; }

# follow NAME FILE: in the background, "milliseconds replicas ready wanted mode" into FILE each time they change.
follow() {
  (
    last=""
    while :; do
      line=$(status "$1" '"\(.replicas) \(.ready) \(.wanted) \(.mode)"')
      if [[ -n "$line" && "$line" != "$last" ]]; then echo "$(now_ms) $line" >>"$2"; last=$line; fi
      sleep 0.02
    done
  ) >/dev/null &
}

# The replicas alive now, of all that were ever started.
live() { while read -r pid _; do if is_replica "$pid"; then echo "$pid"; fi; done <"$work/starts"; }

starts() { if [[ -f "$work/starts" ]]; then wc -l <"$work/starts"; else echo 0; fi; }

# run NAME FLAGS...: the load generator on a prediction of the service, with JSON output.
run() {
  local name=$1
  shift
  "$loadtest_bin" run "http://$proxy/v1/models/custom-model:predict" --host "$name.default.example.com" \
    --body "@$root/loadtest/input.json" --json "$@"
}

#!/usr/bin/env bash
# A server that closes connections which were idle for 2 s, without a word, and POSTs whose pauses end about then: none
# fails, because kpa closes them after 1.5 s. keep-alive.sh [REQUESTS] [SEED], default 100000 and 1: about 7 minutes.
#
# 800 clients send in waves, 1.0 to 2.4 s after the answers of the last one. The requests of a wave overlap, so that each
# needs a connection to a replica, which is then idle until the next wave. The server counts how long that was.
# As a proof that the server is such a one, the same clients meet kpa.dev/upstream-idle-timeout: 3s for ten waves: then the
# server closes first, and some POSTs fail.
source "$(dirname "$0")/lib.sh"
requests=${1:-100000} seed=${2:-1}

serve_python keep_alive.py serve
# What two replicas counted, together. Two, because a worker keeps at most 256 idle connections to one.
counts() {
  local port
  for port in "$@"; do curl -sf "http://127.0.0.1:$port/counts"; done \
    | jq -cs '{requests: map(.requests) | add, connections: map(.connections) | add, reused: map(.reused) | add,
      nearTheLimit: map(.nearTheLimit) | add, closedForIdleness: map(.closedForIdleness) | add,
      longestIdleMs: map(.longestIdleMs) | max}'
}

# load NAME REQUESTS FLAGS...: starts two replicas of the service, which nothing else starts meanwhile, and sends.
load() {
  service "$1" "${annotations[@]}"
  check "two replicas of $1" wait_for 30 is "$1" .ready 2
  readarray -t ports < <(tail -n2 "$work/starts" | cut -d' ' -f2)
  "$python" -SE "$here/keep_alive.py" send --proxy "$proxy" --host "$1.default.example.com" --seed "$seed" "${@:3}" \
    --requests "$2" >"$work/result.json"
  failed=$(jq .failed "$work/result.json")
  say "  clients: $(cat "$work/result.json")"
  seen=$(counts "${ports[@]}")
  say "  servers: $seen"
}
start_kpa

say "upstream-idle-timeout 3s:"
annotations=(annotation autoscaling.knative.dev/min-scale 2 annotation autoscaling.knative.dev/max-scale 2)
annotations+=(annotation kpa.dev/upstream-idle-timeout 3s)
load late 8000 --gap 1.6-2.1
check "the servers close idle connections" test "$(jq .closedForIdleness <<<"$seen")" -gt 0
check "requests arrive when they are about to" test "$(jq .nearTheLimit <<<"$seen")" -gt 0
check "and some are lost" test "$failed" -gt 0

say "upstream-idle-timeout 1.5s, the default:"
annotations=("${annotations[@]:0:6}")
load default "$requests"
check "connections were used again after a pause" test "$(jq .reused <<<"$seen")" -gt 0
check "and never near the servers' limit" test "$(jq .nearTheLimit <<<"$seen")" -eq 0
check "no POST failed" test "$failed" -eq 0
check "no client's connection was closed between its requests" test "$(jq .clientConnectionsClosed "$work/result.json")" -eq 0
finish

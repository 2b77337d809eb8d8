#!/usr/bin/env bash
# A server that works on although its client has left, and clients that leave while they are held, before the head, in
# their own body and in the answer: with container-concurrency 1 it never runs two requests at once, with 2 never three,
# and afterwards it still answers. never-two.sh [SECONDS] [SEED], default 60 and 1: that long for each, at the same time.
# Without a limit the same server does run many at once, and says so.
source "$(dirname "$0")/lib.sh"
seconds=${1:-60} seed=${2:-1}

serve_python never_two.py serve
one_replica=(annotation autoscaling.knative.dev/min-scale 1 annotation autoscaling.knative.dev/max-scale 1)
declare -A port
start_kpa
for limit in 1 2 0; do
  service "limit-$limit" "${one_replica[@]}" annotation kpa.dev/container-concurrency "$limit"
  check "limit $limit: a replica" wait_for 30 is "limit-$limit" .ready 1
  # Nothing else starts meanwhile.
  read -r _ port[$limit] _ < <(tail -n1 "$work/starts")
done

clients() {
  "$python" -SE "$here/never_two.py" send --proxy "$proxy" --host "limit-$1.default.example.com" --seed "$seed" --seconds "$2" \
    >"$work/clients.$1"
}
counts() { curl -sf --max-time 10 "http://127.0.0.1:${port[$1]}/counts"; }
idle() { [[ "$(counts "$1" | jq .running)" == 0 ]]; }

only_known() {
  jq -e '(keys - ["leaves early", "leaves in its body", "leaves in the answer", "stays"]) == [] and .stays > 0' "$1" >/dev/null
}
answers() {
  "$loadtest_bin" run "http://$proxy/work" --host "limit-$1.default.example.com" --body x --requests 20 --in-flight 4 \
    --expect-all >/dev/null
}

clients 0 3
check "without a limit more than two at once" test "$(counts 0 | jq .most)" -gt 2
pids=()
for limit in 1 2; do clients "$limit" "$seconds" & pids+=("$!"); done
wait "${pids[@]}"
for limit in 1 2; do
  say "limit $limit: clients: $(cat "$work/clients.$limit")"
  check "  whoever stayed was answered" only_known "$work/clients.$limit"
  check "  the server comes to rest" wait_for 30 idle "$limit"
  say "  server: $(counts "$limit")"
  check "  the most at once: $limit" test "$(counts "$limit" | jq .most)" -eq "$limit"
  check "  it still answers" answers "$limit"
  check "  and nobody is in its queue" wait_for 10 is "limit-$limit" .queued 0
done
finish

#!/usr/bin/env bash
# Three models share one slot. A third of the time one client goes from model to model, then each model has a client of
# its own: every request is answered, two model servers are never alive at once, and nobody starves. exclusive.sh [SECONDS],
# default 60.
source "$(dirname "$0")/lib.sh"
seconds=${1:-60}
residence=3

for model in red green blue; do
  service "$model" annotation kpa.dev/exclusive-group gpu annotation kpa.dev/exclusive-residence "${residence}s" \
    annotation autoscaling.knative.dev/target 10 env SERVICE_TIME 50ms env LOAD_TIME 1s
done
# What overlaps with an earlier process finds it alive at its own start, so this misses nothing.
cat >"$work/at-start" <<END
while read -r pid _; do
  [[ "\$pid" != \$\$ && -d /proc/\$pid ]] || continue
  state=\$(awk '/^State:/ { print \$2 }' "/proc/\$pid/status" 2>/dev/null || true)
  if [[ "\$state" =~ ^[A-Y]\$ ]]; then echo "\$\$ started while \$pid was \$state" >>"$work/overlaps"; fi
done <"$work/starts"
END
: >"$work/overlaps"
start_kpa

# percentiles FILE: p50, p90 and the largest of a number a line.
percentiles() {
  sort -n "$1" | awk '{ v[NR] = $1 } END { if (NR) print "p50", v[int((NR + 1) / 2)], "p90", v[int((NR * 9 + 9) / 10)], "max", v[NR] }'
}

# seen FILE: in the background, every mode and reason that kpa shows of the three, each once a line.
seen() {
  while :; do
    curl -sf --max-time 5 "http://$admin/v1/revisions" | jq -r '.[] | "\(.name) \(.mode): \(.reason)"' 2>/dev/null || true
    sleep 0.1
  done >"$1"
}
seen "$work/seen" &
watcher=$!

say "one client that goes from model to model:"
until_ms=$(($(now_ms) + seconds * 1000 / 3))
turns=0
while (($(now_ms) < until_ms)); do
  for model in red green blue; do
    if ! run "$model" --in-flight 1 --requests 10 --expect-all >"$work/turn.json"; then check "a turn of $model" false; fi
    jq '.latencyMs.max | floor' "$work/turn.json" >>"$work/waits.$model"
    turns=$((turns + 1))
  done
done
for model in red green blue; do say "  $model: ms until its first answer: $(percentiles "$work/waits.$model")"; done
check "each was woken again and again" between 6 "$turns" 1000000

say "a client of each at the same time:"
pids=()
for model in red green blue; do
  run "$model" --in-flight 2 --duration "$((seconds * 2 / 3))s" --expect-all >"$work/load.$model.json" &
  pids+=("$!")
done
for pid in "${pids[@]}"; do check "every request was answered" wait "$pid"; done
# Two members may be ahead, each with its residence, two frames of drain, its stop and the next one's start.
longest=$((2 * (residence + 3 + 2) * 1000 + 4000))
for model in red green blue; do
  max=$(jq '.latencyMs.max | floor' "$work/load.$model.json")
  say "  $model: $(jq -r '"\(.ok) answers, ms: " + (.latencyMs | "p50 \(.p50 | floor) p90 \(.p90 | floor) p99 \(.p99 | floor) max \(.max | floor)")' "$work/load.$model.json")"
  check "$model did not starve: $max ms at most" between 0 "$max" "$longest"
done
kill "$watcher" 2>/dev/null || true

swaps=$(curl -sf "http://$admin/metrics" | awk '/^autoscaler_exclusive_swaps_total/ { sum += $2 } END { print sum + 0 }')
say "$swaps swaps, $(starts) starts"
check "a swap for every turn but the first, and under load" between "$turns" "$swaps" 1000000
check "never two model servers alive" test ! -s "$work/overlaps"
cat "$work/overlaps"
check "kpa says who waits" grep -qE '^[a-z]+ waiting: waits for a slot of group gpu, held by default/[a-z]+$' "$work/seen"
check "and who makes room" grep -qE '^[a-z]+ draining: makes room in group gpu for default/[a-z]+$' "$work/seen"
finish

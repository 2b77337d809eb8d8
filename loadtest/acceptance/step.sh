#!/usr/bin/env bash
# Step 1 -> 50 in flight with target 10: the scale call follows within 100 ms, and while the load stays the count never
# falls; with kpa.dev/exact the counts are Knative's: nothing at once, then the panic window's average over 7, and 8 in
# the end.
source "$(dirname "$0")/lib.sh"

for exact in false true; do
  service "step-$exact" annotation autoscaling.knative.dev/target 10 annotation autoscaling.knative.dev/max-scale 20 \
    annotation autoscaling.knative.dev/min-scale 1 annotation kpa.dev/exact "$exact" env SERVICE_TIME 300ms
done
start_kpa

# Makes the step. Afterwards `after` is the time in ms from before the load generator is started to the first
# instruction of the next replica: an upper bound of the time to the scale call.
step() {
  local name=$1 at
  after=""
  wait_for 30 is "$name" .ready 1 || return 1
  run "$name" --in-flight 1 --duration 115s >"$work/$name.one.json" &
  # Until the data covers a whole window since the start nothing shrinks, and a fall could not be seen.
  wait_for 75 is "$name" .lastDecision.hold null || return 1
  # Long enough that the averages know nothing but the one in flight.
  sleep 15
  : >"$work/$name.timeline"
  follow "$name" "$work/$name.timeline"
  at=$(now_ms)
  run "$name" --in-flight 49 --duration 20s >"$work/$name.json" &
  sleep 19
  after=$(awk -v at="$at" '$3 >= at { print $3 - at; exit }' "$work/starts")
  say "$name: the next replica starts ${after:-never} ms after the step; time, replicas, ready, wanted, mode:"
  say "$(cat "$work/$name.timeline")"
}

step step-false || check "a replica before the step" false
check "the scale call within 100 ms" between 0 "${after:-999999}" 100
check "8 in the end" is step-false .wanted 8
check "never down" awk '$4 < was { exit 1 } { was = $4 }' "$work/step-false.timeline"

step step-true || check "a replica before the step" false
check "exact: not before a closed second shows it" between 300 "${after:-0}" 6000
check "exact: 8 in the end" is step-true .wanted 8
most=$(awk '$4 > most { most = $4 } END { print most }' "$work/step-true.timeline")
check "exact: never above 8 ($most)" test "$most" -le 8
check "exact: never down" awk '$4 < was { exit 1 } { was = $4 }' "$work/step-true.timeline"
finish

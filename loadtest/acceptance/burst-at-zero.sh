#!/usr/bin/env bash
# 1 000 connections at the same instant at zero, 5 s to load: 1 000 answers, one way up, no replica started twice.
source "$(dirname "$0")/lib.sh"

service burst annotation autoscaling.knative.dev/target 10 annotation autoscaling.knative.dev/max-scale 4 \
  annotation autoscaling.knative.dev/window 6s \
  env LOAD_TIME 5s env SERVICE_TIME 20ms
start_kpa
check "it sleeps first" wait_for 200 asleep burst
before=$(starts)
: >"$work/timeline"
follow burst "$work/timeline"

run burst --burst 1000 --expect-all >"$work/result.json" || true
say "$(jq -c '{requests, ok, failed, statuses, errors, latencyMs}' "$work/result.json")"
say "time, replicas, ready, wanted, mode:"
say "$(cat "$work/timeline")"
check "1 000 times 200" test "$(jq .ok "$work/result.json")" -eq 1000
most=$(awk '$2 > most { most = $2 } END { print most + 0 }' "$work/timeline")
rises=$(awk 'was == 0 && $2 > 0 && NR > 1 { n++ } { was = $2 } END { print n + 0 }' "$work/timeline")
drops=$(awk '$2 < was { n++ } { was = $2 } END { print n + 0 }' "$work/timeline")
check "one way up from zero ($rises)" test "$rises" -eq 1
check "no way down in between ($drops)" test "$drops" -eq 0
check "as many processes as replicas ($(($(starts) - before)) and $most)" test "$(($(starts) - before))" -eq "$most"
finish

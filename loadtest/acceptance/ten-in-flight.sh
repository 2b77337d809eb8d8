#!/usr/bin/env bash
# Exactly 10 in flight for 70 s, 500 ms each: target 10 makes 2 replicas; target 1 with max-scale 20 wants 15.
source "$(dirname "$0")/lib.sh"

service target-ten annotation autoscaling.knative.dev/target 10 annotation autoscaling.knative.dev/max-scale 20 \
  env SERVICE_TIME 500ms
service target-one annotation autoscaling.knative.dev/target 1 annotation autoscaling.knative.dev/max-scale 20 \
  env SERVICE_TIME 500ms
start_kpa

one() {
  local name=$1 expected=$2
  run "$name" --in-flight 10 --duration 70s --expect-all >"$work/$name.json" &
  local load=$!
  sleep 67
  status "$name" . >"$work/$name.status"
  local wanted replicas
  wanted=$(jq .wanted "$work/$name.status")
  replicas=$(jq .replicas "$work/$name.status")
  check "$name: all answered" wait "$load"
  say "$(jq -c '{requests, ok, failed}' "$work/$name.json")"
  say "$name: wanted $wanted, replicas $replicas; the arithmetic:"
  say "$(jq -c .lastDecision "$work/$name.status")"
  check "$name: $expected wanted" test "$wanted" -eq "$expected"
  check "$name: $expected asked for" test "$replicas" -eq "$expected"
}

one target-ten 2
one target-one 15
finish

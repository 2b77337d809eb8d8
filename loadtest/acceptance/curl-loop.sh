#!/usr/bin/env bash
# The seed's curl loop from zero: 1 000 answers, all 200; replicas appear, follow the load, and leave.
source "$(dirname "$0")/lib.sh"

service custom-model-autoscaling annotation autoscaling.knative.dev/target 10 \
  annotation autoscaling.knative.dev/min-scale 0 annotation autoscaling.knative.dev/max-scale 10 \
  annotation autoscaling.knative.dev/window 6s annotation kpa.dev/default-route true \
  env LOAD_TIME 2s env SERVICE_TIME 50ms
start_kpa
check "it sleeps before the first request" wait_for 200 asleep custom-model-autoscaling
: >"$work/timeline"
follow custom-model-autoscaling "$work/timeline"

KPA_URL="http://$proxy" "$root/loadtest/curl-loop.sh" >"$work/codes" || true
say "$(sort "$work/codes" | uniq -c)"
check "1 000 times 200" test "$(grep -cx 200 "$work/codes")" -eq 1000
check "it sleeps again" wait_for 90 asleep custom-model-autoscaling
say "time, replicas, ready, wanted, mode:"
say "$(cat "$work/timeline")"
finish

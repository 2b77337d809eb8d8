#!/usr/bin/env bash
# min-scale "two" and a restart: replicas unchanged, problem shown. Invalid never shrinks.
source "$(dirname "$0")/lib.sh"

with_min_scale() {
  REPLICAS=2 service invalid annotation autoscaling.knative.dev/min-scale "$1" annotation autoscaling.knative.dev/window 6s
}

shown() { status invalid .problems | grep -q min-scale; }
two() { is invalid '"\(.replicas) \(.ready)"' "2 2"; }

# Two replicas at every look for this many seconds.
stays() {
  local until=$(($(now_ms) + $1 * 1000))
  while (($(now_ms) < until)); do
    two || { status invalid '"replicas \(.replicas), ready \(.ready), \(.reason)"'; return 1; }
    sleep 0.2
  done
}

with_min_scale 2
start_kpa
check "two replicas while it is valid" wait_for 30 two
with_min_scale two
check "the problem is shown" wait_for 10 shown
check "two replicas for 20 s: the last good value" stays 20
stop_kpa
start_kpa
check "the problem is shown after a restart" wait_for 10 shown
check "two replicas after a restart" wait_for 30 two
check "and for 30 s more: nothing good is known, so nothing shrinks" stays 30
say "$(status invalid '.problems, .management')"
finish

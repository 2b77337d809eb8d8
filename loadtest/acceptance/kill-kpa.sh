#!/usr/bin/env bash
# kill -9 of kpa leaves no orphan after the next start.
source "$(dirname "$0")/lib.sh"

service orphan annotation autoscaling.knative.dev/min-scale 2 env SERVICE_TIME 10ms
start_kpa
check "two replicas" wait_for 30 is orphan .ready 2
old=$(awk '{ print $1 }' "$work/starts")

kill -KILL "$kpa_pid"
wait "$kpa_pid" 2>/dev/null || true
kpa_pid=""
for pid in $old; do gone "$pid" || say "left behind: $pid"; done
start_kpa
check "two replicas of the next life" wait_for 30 is orphan .ready 2
for pid in $old; do check "$pid is gone" wait_for 10 gone "$pid"; done
check "and requests are answered" run orphan --in-flight 2 --requests 20 --expect-all >/dev/null

check "only the two of this life are alive" test "$(live | wc -l)" -eq 2
finish

#!/usr/bin/env bash
# kill -9 of a replica under load fails at most what that replica was executing.
source "$(dirname "$0")/lib.sh"

service victim annotation autoscaling.knative.dev/min-scale 3 annotation autoscaling.knative.dev/max-scale 3 \
  annotation kpa.dev/container-concurrency 8 env SERVICE_TIME 200ms
start_kpa
check "three replicas" wait_for 30 is victim .ready 3

run victim --in-flight 20 --duration 12s >"$work/load.json" &
load=$!
sleep 3
read -r pid port _ < <(tail -n1 "$work/starts")
running=$(curl -s "http://127.0.0.1:$port/stats" | jq .running)
kill -KILL "$pid"
say "killed $pid, which was executing $running of at most 8"
wait "$load" || true
say "$(jq -c '{requests, ok, failed, statuses, errors}' "$work/load.json")"
check "at most 8 failed" between 0 "$(jq .failed "$work/load.json")" 8
check "the others went on" between 500 "$(jq .ok "$work/load.json")" 100000
check "the replica is replaced" wait_for 30 is victim .ready 3
finish

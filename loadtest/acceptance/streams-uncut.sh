#!/usr/bin/env bash
# A 60 s stream of events on every replica while the load falls: none is cut, and then the replicas leave.
source "$(dirname "$0")/lib.sh"

service stream annotation autoscaling.knative.dev/target 10 annotation autoscaling.knative.dev/window 6s \
  annotation autoscaling.knative.dev/max-scale 3 annotation autoscaling.knative.dev/min-scale 1 \
  env SERVICE_TIME 50ms env TOKENS 1200 env TOKEN_INTERVAL 50ms
start_kpa

run stream --in-flight 30 --duration 12s >"$work/load.json" &
load=$!
check "three replicas under load" wait_for 12 is stream .ready 3
pids=()
for n in 1 2 3 4 5 6; do
  curl -sN --max-time 120 -D "$work/head.$n" -o "$work/stream.$n" -H "Host: stream.default.example.com" \
    -d '{"stream": true}' "http://$proxy/v1/chat/completions" &
  pids+=($!)
done
check "the load was answered" wait "$load"
: >"$work/timeline"
follow stream "$work/timeline"
for pid in "${pids[@]}"; do check "curl ended well" wait "$pid"; done

for n in 1 2 3 4 5 6; do
  check "stream $n: 1 200 tokens and its end" test \
    "$(grep -c 'token' "$work/stream.$n") $(tail -n2 "$work/stream.$n" | head -n1)" = "1200 data: [DONE]"
done
on=$(grep -hi '^x-replica:' "$work"/head.* | sort | uniq -c)
say "streams by replica:"
say "$on"
check "every replica had one" test "$(wc -l <<<"$on")" -eq 3
check "fewer were wanted meanwhile" grep -q ' 1 [a-z-]*$' "$work/timeline"
check "afterwards one replica is left" wait_for 60 is stream .replicas 1
say "time, replicas, ready, wanted, mode:"
say "$(cat "$work/timeline")"
finish

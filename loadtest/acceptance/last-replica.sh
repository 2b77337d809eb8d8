#!/usr/bin/env bash
# Window 6 s, retention 5 s: the last replica leaves 11.0 to 14.0 s after the last answer, RUNS times (default 20); and
# a request in that moment is answered.
source "$(dirname "$0")/lib.sh"
runs=${RUNS:-20}

service last annotation autoscaling.knative.dev/target 100 annotation autoscaling.knative.dev/window 6s \
  annotation autoscaling.knative.dev/scale-to-zero-pod-retention-period 5s env SERVICE_TIME 100ms
start_kpa

for ((n = 1; n <= runs; n++)); do
  wait_for 200 asleep last || { check "run $n: it sleeps first" false; break; }
  run last --in-flight 1 --requests 3 --expect-all >/dev/null || check "run $n: answered" false
  answered=$(now_ms)
  read -r pid _ < <(tail -n1 "$work/starts")
  modes=$(status last .mode)
  # The replica's own end is what counts.
  while ! gone "$pid"; do
    (($(now_ms) - answered < 30000)) || break
    sleep 0.01
  done
  left=$(($(now_ms) - answered))
  check "run $n: left after $left ms (then in mode $modes)" between 11000 "$left" 14000
done

say "requests at the moment it leaves:"
for offset in 10800 11200 11600 12000 12400 12800 13200 13600; do
  wait_for 200 asleep last || true
  run last --in-flight 1 --requests 1 --expect-all >/dev/null || check "the first request" false
  until_ms=$(($(now_ms) + offset))
  while (($(now_ms) < until_ms)); do sleep 0.01; done
  check "answered $offset ms after the last answer" run last --in-flight 1 --requests 1 --expect-all >/dev/null
done
finish

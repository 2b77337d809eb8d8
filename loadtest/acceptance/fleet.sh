#!/usr/bin/env bash
# 40 revisions with short windows, single answers and streams mixed, load that comes and goes: no request fails, no stream
# is cut, and when it is over nothing runs any more. fleet.sh [LENGTH] [SEED]; by default 2m and 1. `fleet.sh 19m` is the
# long form: it also asks for 1 000 000 requests and 1 000 scale-downs.
source "$(dirname "$0")/lib.sh"
length=${1:-2m} seed=${2:-1} revisions=40

for ((n = 0; n < revisions; n++)); do
  service "fleet-$n" annotation autoscaling.knative.dev/target 2 annotation autoscaling.knative.dev/window 6s \
    annotation autoscaling.knative.dev/max-scale 4 env SERVICE_TIME 5ms env TOKENS 40 env TOKEN_INTERVAL 25ms
done
start_kpa
"$loadtest_bin" fleet --proxy "$proxy" --revisions "$revisions" --duration "$length" --seed "$seed" --json \
  --clients 6 >"$work/fleet.json"

of() { jq -r "$1" "$work/fleet.json"; }
scalings() { grep -oE 'scaled [0-9]+ -> [0-9]+' "$work/kpa.log"; }
downs=$(scalings | awk '$4 < $2' | wc -l)
total=$(of '.unary.requests + .streams.requests')
say "seed $seed, $length: $total requests ($(of .streams.requests) streams), $(of '.unary.cold + .streams.cold') of them cold,"
say "$(starts) replicas started, $downs scale-downs"
say "first byte of single answers, ms: $(of '.unary.firstByteMs | tostring')"
check "no request failed ($(of '.unary.errors + .unary.statuses | tostring'))" test "$(of .unary.failed)" = 0
check "no stream was cut ($(of '.streams.errors + .streams.statuses | tostring'))" test "$(of .streams.failed)" = 0
check "streams and scale-downs there were" test "$(of .streams.requests)" -gt 0 -a "$downs" -gt 0
if [[ "$length" =~ ^[0-9]+m$ ]] && ((${length%m} >= 15)); then
  check "1 000 000 requests" test "$total" -ge 1000000
  check "1 000 scale-downs" test "$downs" -ge 1000
fi
all_asleep() { for ((n = 0; n < revisions; n++)); do asleep "fleet-$n" || return 1; done; }
check "afterwards all are asleep" wait_for 60 all_asleep
none_live() { [[ -z "$(live)" ]]; }
check "and no replica runs" wait_for 20 none_live
finish

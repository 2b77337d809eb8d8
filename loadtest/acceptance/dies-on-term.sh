#!/usr/bin/env bash
# A server that dies at once on TERM, and streams that are longer than the window: until so many replicas have been
# stopped, no request is lost and no stream is cut, because a replica that leaves has nothing any more when it gets TERM.
# Single answers make the count grow; when they pause, the streams alone are too few for it, and are on all replicas.
# dies-on-term.sh [STOPS] [SEED], default 200 and 1: about 4 minutes.
source "$(dirname "$0")/lib.sh"
stops=${1:-200} seed=${2:-1} revisions=12

: >"$work/ended"
serve_python dies_on_term.py serve "$work/ended"
for ((n = 0; n < revisions; n++)); do
  service "dies-$n" annotation autoscaling.knative.dev/target 6 annotation autoscaling.knative.dev/window 6s \
    annotation autoscaling.knative.dev/max-scale 4
done
start_kpa

rounds=0
: >"$work/sent"
while (($(wc -l <"$work/ended") < stops && rounds < 20)); do
  "$python" -SE "$here/dies_on_term.py" send --proxy "$proxy" --revisions "$revisions" --seed "$((seed + rounds))" >"$work/round"
  rounds=$((rounds + 1))
  cat "$work/round" >>"$work/sent"
  say "round $rounds: $(cat "$work/round"), $(wc -l <"$work/ended") stopped"
done
of() { jq -s "map(.$1) | add" "$work/sent"; }
check "no request lost, no stream cut" test "$(jq -cs 'map(keys) | add | unique' "$work/sent")" = '["single","stream"]'
ended=$(wc -l <"$work/ended")
say "seed $seed: $(of single) single answers, $(of stream) streams, $ended replicas stopped, which had streamed $(awk '{ n += $3 } END { print n }' "$work/ended") times"
say "TERM came after the replica's last answer, ms: $(awk '{ print $4 }' "$work/ended" | sort -n \
  | awk '{ v[NR] = $1 } END { print "min", v[1], "p50", v[int((NR + 1) / 2)], "max", v[NR] }')"
check "$stops replicas were stopped" test "$ended" -ge "$stops"
check "none of them had anything under way" awk '$2 > 0 { bad = 1 } END { exit bad }' "$work/ended"
# These were chosen to leave while they had streams, and were waited for.
waited=$(awk '$3 > 0 && $4 < 2000' "$work/ended" | wc -l)
say "$waited of them less than 2 s after a stream"
check "a tenth was stopped less than 2 s after a stream" test "$waited" -ge $((ended / 10))
finish

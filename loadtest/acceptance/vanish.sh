#!/usr/bin/env bash
# COUNT clients (default 10000) wait for a service whose start takes long, every second one with a small body; then their
# process is killed. Within 60 s kpa has what it had before the first came: descriptors, and memory within 20 %. Three
# rounds, so that what is kept of each would show. vanish.sh [COUNT], about a minute.
source "$(dirname "$0")/lib.sh"
count=${1:-10000}
descriptor_slack=8

serve_python keep_alive.py serve
service warm annotation autoscaling.knative.dev/min-scale 1 annotation autoscaling.knative.dev/max-scale 1
# Longer than this script.
cat >"$work/slow.sh" <<'END'
#!/usr/bin/env bash
exec sleep 3600
END
chmod +x "$work/slow.sh"
service slow annotation autoscaling.knative.dev/max-scale 1 annotation kpa.dev/start-deadline 1h \
  annotation kpa.dev/queue-depth "$count"
sed -i "s|$work/replica.sh|$work/slow.sh|" "$work/services/slow.yaml"
ulimit -n "$(ulimit -Hn)"

rss_kib() { awk '/^VmRSS:/ { print $2 }' "/proc/$kpa_pid/status"; }
descriptors() { ls "/proc/$kpa_pid/fd" | wc -l; }
answers() { [[ "$(curl -s -o /dev/null -w '%{http_code}' --max-time 10 -d x -H 'Host: warm.default.example.com' "http://$proxy/")" == 200 ]]; }
held() { is slow .queued "$1"; }
back() { (($(rss_kib) * 100 <= first_kib * 120 && $(descriptors) <= first_fds + descriptor_slack)); }

# round NUMBER: they come, wait and leave.
round() {
  local client left_ms
  say "round $1: before: $(rss_kib) KiB, $(descriptors) descriptors"
  "$python" -SE "$here/vanish.py" "$proxy" slow.default.example.com "$count" "127.0.1.$1" >"$work/sent.$1" &
  client=$!
  check "  $count requests are held" wait_for 120 held "$count"
  say "  held: $(rss_kib) KiB, $(descriptors) descriptors"
  check "  while they wait, another service answers" answers
  left_ms=$(now_ms)
  kill -KILL "$client"
  wait "$client" 2>/dev/null || true
  check "  they are gone from the queue within 10 s" wait_for 10 held 0
  say "  the queue was empty after $(($(now_ms) - left_ms)) ms"
  check "  within 60 s: memory within 20 % of before, and at most $descriptor_slack descriptors more" wait_for 60 back
  say "  $(($(now_ms) - left_ms)) ms later: $(rss_kib) KiB, $(descriptors) descriptors"
}

start_kpa
check "another service answers" wait_for 30 is warm .ready 1
check "it has answered" answers
first_kib=$(rss_kib) first_fds=$(descriptors)
for n in 1 2 3; do round "$n"; done
check "the other service still answers" answers
finish

#!/usr/bin/env bash
# COUNT clients (default 10000) wait for a service whose start takes long, every second one with a small body; then their
# process is killed. Within 60 s kpa has what it had before: memory and descriptors. vanish.sh [COUNT], about 2 minutes.
#
# Memory is compared with the level after a first round, in which tables and buffers grow to their size once. What is
# compared is what kpa holds: MIMALLOC_PURGE_DELAY=0 lets its allocator give back at once what is freed. Without that the
# allocator keeps a part for later, which a last round shows and does not judge, beyond that it is less than what was held.
source "$(dirname "$0")/lib.sh"
count=${1:-10000}
# Less than a kilobyte for each of 10 000 clients.
memory_slack_kib=4096
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
back() { (($(rss_kib) <= base_kib + memory_slack_kib && $(descriptors) <= base_fds + descriptor_slack)); }

# round NUMBER: until nobody is held any more. `held_kib` is the memory while they were, `left_ms` when they left.
round() {
  local client
  say "round $1: before: $(rss_kib) KiB, $(descriptors) descriptors"
  "$python" -SE "$here/vanish.py" "$proxy" slow.default.example.com "$count" "127.0.1.$1" >"$work/sent.$1" &
  client=$!
  check "  $count requests are held" wait_for 120 held "$count"
  held_kib=$(rss_kib)
  say "  held: $held_kib KiB, $(descriptors) descriptors"
  check "  while they wait, another service answers" answers
  left_ms=$(now_ms)
  kill -KILL "$client"
  wait "$client" 2>/dev/null || true
  check "  they are gone from the queue within 10 s" wait_for 10 held 0
  say "  the queue was empty after $(($(now_ms) - left_ms)) ms"
}

# settle SECONDS: until so long after the clients left; the level is then `base_kib` and `base_fds`.
settle() {
  while (($(now_ms) - left_ms < $1 * 1000)); do sleep 0.2; done
  base_kib=$(rss_kib) base_fds=$(descriptors)
  say "  $1 s later: $base_kib KiB, $base_fds descriptors"
}

export MIMALLOC_PURGE_DELAY=0
start_kpa
check "another service answers" wait_for 30 is warm .ready 1
first_fds=$(descriptors)
round 1
settle 15
check "  descriptors: at most $descriptor_slack more than before" between 0 "$base_fds" "$((first_fds + descriptor_slack))"
for n in 2 3; do
  round "$n"
  check "  within 60 s: at most $memory_slack_kib KiB and $descriptor_slack descriptors more than after round 1" wait_for 60 back
  say "  $(($(now_ms) - left_ms)) ms later: $(rss_kib) KiB, $(descriptors) descriptors"
done
check "the other service still answers" answers
stop_kpa

say "with the allocator's own delay:"
unset MIMALLOC_PURGE_DELAY
start_kpa
check "another service answers" wait_for 30 is warm .ready 1
first_fds=$(descriptors)
round 4
settle 60
check "  descriptors: at most $descriptor_slack more than before" between 0 "$base_fds" "$((first_fds + descriptor_slack))"
check "  less memory than while they were held" between 0 "$base_kib" "$held_kib"
finish

#!/usr/bin/env bash
# A server that needs 90 s to load, window 6 s, one client that leaves after 10 s: the replica gets ready all the same.
source "$(dirname "$0")/lib.sh"

service slow annotation autoscaling.knative.dev/window 6s env LOAD_TIME 90s
start_kpa
check "it sleeps first" wait_for 200 asleep slow
before=$(starts)

begin=$(now_ms)
curl -s -o /dev/null --max-time 10 -H "Host: slow.default.example.com" "http://$proxy/" || say "the client left after 10 s"
check "a replica gets ready" wait_for 110 is slow .ready 1
say "ready after $(($(now_ms) - begin)) ms"
check "it was started once" test "$(($(starts) - before))" -eq 1
check "and it answers" curl -sf -o /dev/null --max-time 10 -H "Host: slow.default.example.com" "http://$proxy/"
finish

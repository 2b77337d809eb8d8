#!/usr/bin/env bash
# Every acceptance script, one after the other; ends with status 1 if one failed. About half an hour.
# The short forms of those that take a length: each alone runs longer by default.
cd "$(dirname "$0")" || exit 2
failed=()
for script in curl-loop burst-at-zero step kill-replica kill-kpa invalid-and-restart streams-uncut slow-start \
  ten-in-flight exclusive last-replica fleet "keep-alive 40000" "dies-on-term 60" "never-two 20" "vanish 2000" \
  "real-servers files stream"; do
  echo "=== $script"
  read -r name lengths <<<"$script"
  # Split into words on purpose.
  "./$name.sh" $lengths || failed+=("$name")
done
((${#failed[@]} == 0)) || { echo "failed: ${failed[*]}"; exit 1; }

#!/usr/bin/env bash
# Every acceptance script, one after the other; ends with status 1 if one failed. About 20 minutes.
cd "$(dirname "$0")" || exit 2
failed=()
for script in curl-loop burst-at-zero step kill-replica kill-kpa invalid-and-restart streams-uncut slow-start \
  ten-in-flight exclusive last-replica fleet; do
  echo "=== $script"
  "./$script.sh" || failed+=("$script")
done
((${#failed[@]} == 0)) || { echo "failed: ${failed[*]}"; exit 1; }

#!/usr/bin/env bash
# 1 000 predictions by curl, 10 at a time, each on a connection of its own. Prints every status code; ends with
# status 1 unless all were 200. KPA_URL names another proxy than http://localhost:8080.
set -euo pipefail
cd "$(dirname "$0")"
url="${KPA_URL:-http://localhost:8080}"

exec 3>&1
codes=$(seq 1 1000 | xargs -n1 -P10 -I {} curl -s -o /dev/null -w "%{http_code}\n" \
  -H "Host: custom-model-autoscaling.default.example.com" \
  -H "Content-Type: application/json" \
  "$url/v1/models/custom-model:predict" \
  -d @input.json 2> >(grep -v "mutually exclusive" >&2) | tee >(cat >&3)) || true
good=$(grep -cx 200 <<<"$codes" || true)
echo "$good of 1000 answers were 200" >&2
[[ "$good" -eq 1000 ]]

#!/usr/bin/env bash
# Servers that nobody here wrote, by the manifests of deploy/examples/python-servers: each answers from zero, what it says
# arrives unchanged, and it sleeps again. real-servers.sh [files] [stream] [embedding], default all three.
#
# files:     Python's own file server, which ends at once on TERM
# stream:    FastAPI under uvicorn: JSON, and streams of 20 s that are not cut while the load falls
# embedding: a sentence-embedding model: 1 000 texts, and the vectors are those of the library called directly
#
# The last two need packages (deploy/examples/python-servers/venv.sh), the last one 3 GB of them, and are left out where
# they cannot be installed.
source "$(dirname "$0")/lib.sh"
(($# > 0)) || set -- files stream embedding
examples="$root/deploy/examples/python-servers"
command -v python3 >/dev/null || { echo "python3 is not installed" >&2; exit 2; }

# patch NAME: the shortest window, so that falling asleep does not take minutes. The manifest stays as it is.
patch() {
  cat >"$work/patch.yaml" <<END
apiVersion: apps/v1
kind: Deployment
metadata:
  name: $1
  annotations:
    autoscaling.knative.dev/window: "6s"
    autoscaling.knative.dev/scale-to-zero-pod-retention-period: "0s"
END
}

# start NAME MANIFEST: kpa with this service alone, in a copy of the examples.
start() {
  rm -rf "$work/servers" "$work/state"
  cp -r "$examples" "$work/servers"
  patch "$1"
  start_kpa "$work/servers/$2" --patch "$work/patch.yaml"
  check "$1 sleeps first" asleep "$1"
}

stop() {
  check "$1 sleeps again" wait_for 120 asleep "$1"
  stop_kpa
}

# environment NAME: puts a virtual environment in front of PATH, or says that there is none.
path=$PATH
environment() {
  local folder
  folder=$("$examples/venv.sh" "$1") || { (($? == 3)) || exit 2; say "  LEFT OUT: see above"; return 1; }
  PATH="$folder/bin:$path"
}

files() {
  start file-server file-server.yaml
  head -c $((8 << 20)) /dev/urandom >"$work/servers/data.bin"
  get() { curl -sf --max-time 60 -H "Host: file-server.default.example.com" "http://$proxy/$1" -o "$2"; }
  check "the first request is answered" get data.bin "$work/first"
  check "with the file's bytes" cmp -s "$work/first" "$work/servers/data.bin"
  local n pids=()
  for n in {1..20}; do get data.bin "$work/again.$n" & pids+=("$!"); done
  local copies=0
  for n in {1..20}; do if wait "${pids[n - 1]}" && cmp -s "$work/again.$n" "$work/servers/data.bin"; then copies=$((copies + 1)); fi; done
  check "20 of 20 copies at the same time too ($copies)" test "$copies" -eq 20
  check "what is not there is a 404 of its own" test \
    "$(curl -s -o /dev/null -w '%{http_code}' -H 'Host: file-server.default.example.com' "http://$proxy/nothing")" = 404
  stop file-server
}

stream() {
  environment web || return 0
  start stream stream.yaml
  local call=(curl -sfN --max-time 120 -H "Host: stream.default.example.com" -H "Content-Type: application/json")
  check "the first answer is right" test \
    "$("${call[@]}" -d '{"numbers": [1, 2, 39]}' "http://$proxy/sum")" = '{"sum":42.0}'
  check "an error is the application's own" test \
    "$(curl -s -o /dev/null -w '%{http_code}' -H 'Host: stream.default.example.com' -H 'Content-Type: application/json' \
      -d '{"numbers": "none"}' "http://$proxy/sum")" = 422
  "$loadtest_bin" run "http://$proxy/sum" --host stream.default.example.com --body '{"numbers": [1, 2, 39]}' \
    -H 'content-type: application/json' --in-flight 30 --duration 12s --json --expect-all >"$work/load.json" &
  local load=$! n pids=()
  check "three replicas under load" wait_for 20 is stream .ready 3
  for n in {1..6}; do
    "${call[@]}" -D "$work/head.$n" -d '{"to": 200, "seconds_between": 0.1}' "http://$proxy/count" >"$work/stream.$n" &
    pids+=("$!")
  done
  : >"$work/timeline"
  follow stream "$work/timeline"
  local watcher=$!
  check "every request of the load was answered" wait "$load"
  say "  $(jq -c '{requests, ok, failed, statuses}' "$work/load.json")"
  { seq -f 'data: %g' 1 200 | sed G; printf 'data: [DONE]\n\n'; } >"$work/expected"
  for n in {1..6}; do
    check "stream $n is complete" wait "${pids[n - 1]}"
    cmp -s "$work/stream.$n" "$work/expected" || check "stream $n is what was sent" false
  done
  kill "$watcher" 2>/dev/null || true
  check "fewer were wanted meanwhile" grep -q ' 3 3 1 ' "$work/timeline"
  stop stream
}

embedding() {
  environment embedding || return 0
  start embedding embedding.yaml
  check "1 000 texts are answered, from zero" \
    "$(command -v python)" "$here/real_servers.py" send "$proxy" "$root" "$work/vectors.json"
  say "  $(grep -oE 'embedding: scaled [0-9]+ -> [0-9]+' "$work/kpa.log" | tr '\n' ',')"
  say "  $(grep -oE 'embedding: ready in .*' "$work/kpa.log" | head -n1)"
  stop embedding
  check "and the vectors are the library's own" env HF_HUB_OFFLINE=1 TQDM_DISABLE=1 \
    "$(command -v python)" "$here/real_servers.py" compare "$work/vectors.json"
}

for part in "$@"; do
  say "$part:"
  case $part in files | stream | embedding) "$part" ;; *) echo "$part? files, stream or embedding" >&2; exit 2 ;; esac
done
finish

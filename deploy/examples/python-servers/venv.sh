#!/usr/bin/env bash
# venv.sh web|embedding: makes a virtual environment with the pinned packages and prints its folder. It lies in
# $XDG_CACHE_HOME/kpa (by default ~/.cache/kpa), is made once for each content of the requirements, and touches no other
# Python. Ends with status 3 where it cannot be made: no venv module, no package registry, no room.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
what=${1:-}
requirements="$here/requirements-$what.txt"
[[ -n "$what" && -f "$requirements" ]] || { echo "usage: venv.sh web|embedding" >&2; exit 2; }

cannot() { echo "no virtual environment for $what: $1" >&2; exit 3; }

version=$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || cannot "there is no python3"
content=$(cat "$here"/requirements-*.txt | sha256sum | head -c 12)
folder="${XDG_CACHE_HOME:-$HOME/.cache}/kpa/venv-$what-$version-$content"
mkdir -p "$(dirname "$folder")"
exec 9>"$folder.lock"
flock 9
# The mark is the last thing that is written: a folder without it was left half way.
if [[ ! -f "$folder/complete" ]]; then
  rm -rf "$folder"
  {
    python3 -m venv "$folder" || cannot "python3 -m venv failed (on Debian: apt install python3-venv)"
    "$folder/bin/pip" install --quiet --disable-pip-version-check -r "$requirements" \
      || { rm -rf "$folder"; cannot "pip could not install $requirements"; }
  } >&2
  : >"$folder/complete"
fi
echo "$folder"

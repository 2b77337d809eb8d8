#!/usr/bin/env bash
# The three programs of the image, the same byte for byte wherever they are built: deploy/build.sh [FOLDER]
# FOLDER (default: out) gets the programs and SHA256SUMS. Same means: the same commit, rustc, C compiler and linker; the folder of
# the sources, the target folder, cargo's home, the user and the time do not matter.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
out=$(realpath -m "${1:-out}")
cd "$root"

programs=(activator autoscaler kpa)
profile=${PROFILE:-dist}
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
cargo_home=${CARGO_HOME:-$HOME/.cargo}

# What is written into a program of where it was built: panic messages and debug information, of Rust and of C.
# The last that matches counts, and the target folder may lie among the sources.
# Cargo follows links to its home, and within it to the registry.
remap=("$cargo_home=/cargo" "$(realpath -m "$cargo_home")=/cargo" "$(realpath -m "$cargo_home/registry")=/cargo/registry"
  "$root=/kpa" "$target=/target")
rust_flags=(-C link-arg=-Wl,--build-id=none)
c_flags=()
for pair in "${remap[@]}"; do
  rust_flags+=("--remap-path-prefix=$pair")
  c_flags+=("-ffile-prefix-map=$pair")
done
# Flags of somebody's own would be written into what depends on flags.
unset RUSTFLAGS
CARGO_ENCODED_RUSTFLAGS=$(IFS=$'\x1f'; echo "${rust_flags[*]}")
export CARGO_ENCODED_RUSTFLAGS CFLAGS="${c_flags[*]}"
export CARGO_INCREMENTAL=0 CARGO_TARGET_DIR="$target" LC_ALL=C TZ=UTC
# For tools that would ask the clock.
export SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-0}"

arguments=()
for program in "${programs[@]}"; do arguments+=(--bin "$program"); done
cargo build --locked --profile "$profile" "${arguments[@]}"

mkdir -p "$out"
folder=$profile
if [[ "$profile" == dev ]]; then folder=debug; fi
for program in "${programs[@]}"; do install -m 755 "$target/$folder/$program" "$out/$program"; done
cd "$out"
sha256sum "${programs[@]}" | tee SHA256SUMS

#!/usr/bin/env bash
# fuzz.sh TARGET [SECONDS]: runs build/fuzz/tests/fuzz/TARGET on a copy of its corpus; what crashes it stays in
# build/fuzz/found/. Build it first: cmake --preset fuzz && ninja -C build/fuzz TARGET
set -euo pipefail
home=$(cd "$(dirname "$0")/.." && pwd)
target=${1:?usage: fuzz.sh TARGET [SECONDS]} seconds=${2:-20}
program=$home/build/fuzz/tests/fuzz/$target
corpus=$home/tests/fuzz/corpus/${target%_fuzz}
found=$home/build/fuzz/found
[[ -x $program ]] || { echo "$target: $program is not built" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$found" "$work/corpus"
if "$program" -max_total_time="$seconds" -timeout=25 -rss_limit_mb=4096 -print_final_stats=1 -verbosity=1 \
  -artifact_prefix="$found/$target-" "$work/corpus" "$corpus" >"$work/log" 2>&1 </dev/null; then
  runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$work/log")
  echo "$target: ${runs:-0} runs in $seconds s, nothing found"
else
  tail -n 40 "$work/log"
  echo "$target: FAILED; the input is in $found"
  exit 1
fi

#!/usr/bin/env bash
# outside_test.sh BUILD COMPILER: installs into a folder of its own, builds examples/outside against it, and asks both the
# outside program and the installed `sonde` something.
set -euo pipefail
build=$1 compiler=$2
source=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cmake --build "$build" --target sonde_all sonde >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }
cmake --install "$build" --prefix "$work/prefix" >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }
cmake -S "$source/examples/outside" -B "$work/build" -G Ninja -DCMAKE_BUILD_TYPE=Release \
  -DCMAKE_CXX_COMPILER="$compiler" -DCMAKE_PREFIX_PATH="$work/prefix" >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }
cmake --build "$work/build" >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }

expect() {  # expect WORD COMMAND...: the command's standard output holds WORD
  local word=$1 output
  shift
  output=$("$@" 2>"$work/log") || { echo "failed: $*"; cat "$work/log"; exit 1; }
  grep -qF -- "$word" <<<"$output" || { printf 'no "%s" in the output of %s:\n%s\n' "$word" "$*" "$output"; exit 1; }
}
cd /
# "Solve 7x + 5 = 40." in the tokens of the embedded model.
expect '\boxed{5}' "$work/build/outside" "$work/prefix/share/sonde/models/mini" \
  0 1020 627 223 25 90 334 223 23 366 223 22 18 16 1021 1022 201
# The installed program finds the embedded model beside itself, not in the source tree.
expect '"content"' "$work/prefix/bin/sonde" ask --json --temperature 0 'Solve 7x + 5 = 40.'
! "$work/build/outside" /nowhere 0 2>"$work/log" && grep -q nowhere "$work/log"
echo "the outside example and the installed program answer"

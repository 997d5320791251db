# Sourced after ready.sh: runs suites one after the other, counts their tests, and closes with one line for all.
passed=0 failed=0 skipped=0 broken=()

# suite_ctest PRESET [CTEST OPTIONS]: builds everything under the preset and runs its tests.
suite_ctest() {
  local preset=$1 log=$home/build/$1-tests.log status=0
  shift
  if ! build "$preset"; then
    broken+=("build of $preset") failed=$((failed + 1))
    return 0
  fi
  echo "== tests ($preset)"
  {
    ctest --test-dir "$home/build/$preset" -j "$(nproc)" --output-on-failure --no-tests=error "$@" </dev/null 2>&1 || status=$?
    echo "$status" >"$log.status"
  } | tee "$log" | grep -vE '^ +Start +[0-9]+: |^ *[0-9]+/[0-9]+ Test +#[0-9]+: .* Passed ' || true
  status=$(<"$log.status")
  count_ctest "$log"
  if ((status)); then broken+=("tests of $preset"); fi
}

# The kernels for 64-bit ARM by a cross compiler, under emulation: NEON on a processor that lacks the dot product (an
# instruction too many stops it), then with it, then what is not run for each set.
suite_emulated() {
  if [[ $(uname -m) == aarch64 ]]; then return; fi  # the suites before have run them
  QEMU_CPU=cortex-a72 suite_ctest aarch64 -R '"neon"$'
  QEMU_CPU=cortex-a76 suite_ctest aarch64 -R '"neon_dotprod"$'
  QEMU_CPU=cortex-a76 suite_ctest aarch64 -E /
}

# Adds up what ctest has written into the file $1.
count_ctest() {
  local all bad skip
  bad=$(grep -oE '[0-9]+ tests? failed out of [0-9]+' "$1" | tail -n 1 || true)
  all=${bad##* } bad=${bad%% *}
  skip=$(grep -cE '^ *[0-9]+/[0-9]+ Test +#[0-9]+: .*\*\*\*Skipped' "$1" || true)
  if [[ -z $all ]]; then
    failed=$((failed + 1))
    return
  fi
  passed=$((passed + all - bad - skip)) failed=$((failed + bad)) skipped=$((skipped + skip))
}

# suite_fuzz SECONDS: each libFuzzer target of the preset `fuzz` on a copy of its corpus, one on each processor.
suite_fuzz() {
  local target targets=() i=0 at
  echo "== fuzz targets, $1 s each"
  set -m  # a process group each: else they would not hear of Ctrl-C
  for target in "$home"/tests/fuzz/*_fuzz.cpp; do
    [[ ! -e $target ]] || targets+=("$(basename "$target" .cpp)")
  done
  while ((i < ${#targets[@]})); do
    local workers=() names=("${targets[@]:i:$(nproc)}")
    trap 'kill -INT -- "${workers[@]/#/-}"; exit 130' INT
    for target in "${names[@]}"; do
      bash "$home/tools/fuzz.sh" "$target" "$1" &
      workers+=($!)
    done
    for at in "${!names[@]}"; do
      if wait "${workers[at]}"; then
        passed=$((passed + 1))
      else
        failed=$((failed + 1)) broken+=("${names[at]}")
      fi
    done
    i=$((i + ${#names[@]}))
  done
  trap - INT
  set +m
  echo "${#targets[@]} fuzz targets"
}

suites_end() {
  local what
  for what in "${broken[@]}"; do echo "FAILED: $what"; done
  echo "$passed passed, $failed failed, $skipped skipped"
  ((failed == 0 && ${#broken[@]} == 0))
}

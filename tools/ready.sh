# Sourced by ./sonde, ./test and .ci/run: says what is missing, installs it, builds with progress. All of it speaks on stderr.
# Wants $home, the source tree.

say() { printf 'sonde: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

# What a build needs, as Debian 12 names it.
build_packages=(g++ cmake ninja-build pkg-config libfmt-dev nlohmann-json3-dev rapidjson-dev libpcre2-dev libutf8proc-dev
  libcli11-dev libboost1.81-dev libssl-dev libedit-dev libgtest-dev)
# The second compiler, with its sanitizers and libFuzzer.
clang_packages=(clang-19 libclang-rt-19-dev)
# A compiler for 64-bit ARM and an emulator of it.
arm_packages=(g++-aarch64-linux-gnu qemu-user-static)

# Runs a long command silently into the file $1 and reports every ten seconds that it still runs; fails as the command does.
quietly() {
  local log=$1 what=$2 started=$SECONDS status=0 worker
  shift 2
  "$@" >"$log" 2>&1 </dev/null &
  worker=$!
  while kill -0 "$worker" 2>/dev/null; do
    sleep 1
    if (((SECONDS - started) % 10 == 0)); then say "$what ... $((SECONDS - started)) s"; fi
  done
  wait "$worker" || status=$?
  if ((status)); then
    tail -n 25 "$log" >&2
    say "$what failed; the whole log: $log"
  fi
  return $status
}

# need PACKAGE...: installs those that are not there.
need() {
  local missing=() package have log=$home/build/install.log
  if ! command -v dpkg-query >/dev/null; then
    say "this system has no dpkg; on Debian 12 the packages needed are: $*"
    return 0  # the build itself will say what it cannot find
  fi
  have=$(dpkg-query -W -f '${Package} ${db:Status-Abbrev}\n' "$@" 2>/dev/null | awk '$2 == "ii" { print $1 }' || true)
  for package; do
    grep -qxF -- "$package" <<<"$have" || missing+=("$package")
  done
  ((${#missing[@]})) || return 0
  say "missing: ${missing[*]}"
  if ((EUID != 0)); then
    fail "to install them: sudo apt-get install ${missing[*]}"
  fi
  mkdir -p "$home/build"
  local apt=(env DEBIAN_FRONTEND=noninteractive LC_ALL=C apt-get -q -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300)
  quietly "$log" "reading the package lists" "${apt[@]}" update || return 1
  local size
  size=$("${apt[@]}" install --no-install-recommends --assume-no "${missing[@]}" 2>/dev/null | grep -o 'get [0-9.,]* [kMG]*B' | head -n 1 || true)
  say "installing them with apt-get${size:+ (to $size)}"
  quietly "$log" "installing" "${apt[@]}" install -y --no-install-recommends "${missing[@]}"
}

# Compilers that fit into memory at once: one for each processor, 1.5 GB each.
jobs() {
  local processors memory
  processors=$(nproc 2>/dev/null || echo 1)
  memory=$(awk '/^MemAvailable/ { print int($2 / 1500000) }' /proc/meminfo 2>/dev/null || echo 1)
  ((memory < 1)) && memory=1
  echo $((processors < memory ? processors : memory))
}

# Turns ninja's "[done/all] ..." into one line of progress with the time left.
progress() {
  local what=$1 started=$SECONDS shown=$SECONDS line done all left
  while IFS= read -r line; do
    [[ $line =~ ^\[([0-9]+)/([0-9]+)\] ]] || continue
    done=${BASH_REMATCH[1]} all=${BASH_REMATCH[2]}
    ((done)) || continue
    left=$(((SECONDS - started) * (all - done) / done))
    if [[ -t 2 ]]; then
      printf '\rsonde: %s %d/%d, about %d s left \033[K' "$what" "$done" "$all" "$left" >&2
    elif ((SECONDS - shown >= 10)); then
      shown=$SECONDS
      say "$what $done/$all, about $left s left"
    fi
  done
  if [[ -t 2 ]]; then printf '\r\033[K' >&2; fi
}

# build PRESET TARGET...: configures once, then lets ninja do what is left.
build() {
  local preset=$1 folder=$home/build/$1 log=$home/build/$1.log started=$SECONDS
  shift
  mkdir -p "$home/build"
  if [[ ! -f $folder/build.ninja ]]; then
    say "configuring (preset $preset)"
    (cd "$home" && quietly "$log" "configuring" cmake --preset "$preset") || return 1
  fi
  if ! NINJA_STATUS='[%f/%t] ' ninja -C "$folder" -j "$(jobs)" "$@" 2>&1 </dev/null | tee "$log" | progress "building ($preset)"; then
    grep -A 12 -E '^FAILED|error:' "$log" | head -n 60 >&2 || tail -n 25 "$log" >&2
    say "the build failed; the whole log: $log"
    return 1
  fi
  if ((SECONDS - started > 5)); then say "built ($preset) in $((SECONDS - started)) s"; fi
}

# True if nothing that the build reads is newer than the file $1.
fresh() {
  [[ -e $1 ]] || return 1
  [[ -z $(find "$home/src" "$home/include" "$home/cmake" "$home/CMakeLists.txt" "$home/CMakePresets.json" \
    -newer "$1" -print -quit 2>/dev/null) ]]
}

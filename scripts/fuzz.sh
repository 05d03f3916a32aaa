#!/usr/bin/env bash
# Looks for inputs that break a fuzz target: scripts/fuzz.sh TARGET [SECONDS]; `targets` lists them.
# Installs cargo-fuzz and the nightly compiler when they are missing. New inputs are kept outside the checkout; `merge
# TARGET` adds to fuzz/corpus those that reach something new. A finding is left in fuzz/artifacts and the exit code is not 0.
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

# One input may take this long: half a second with all checks on, many times that while others have the cores.
INPUT_SECONDS=60
MEMORY_MIB=2048
INPUT_BYTES_MAX=8192

targets() { sed -n 's/^name = "\(.*\)"$/\1/p' "$REPO_DIR/fuzz/Cargo.toml" | tail -n +2; }

need_fuzzer() {
  rustup run nightly rustc --version >/dev/null 2>&1 || rustup toolchain install nightly --profile minimal
  have cargo-fuzz || cargo install cargo-fuzz --locked
}

fuzz() {
  local target="$1" found="$CACHE_DIR/fuzz/$1"
  shift
  mkdir -p "$found"
  # A folder of its own: other flags, another compiler.
  cd "$REPO_DIR/fuzz"
  CARGO_TARGET_DIR="$CACHE_DIR/fuzz-target" cargo +nightly fuzz run --fuzz-dir . "$target" \
    "$found" "corpus/$target" -- -timeout="$INPUT_SECONDS" -rss_limit_mb="$MEMORY_MIB" -max_len="$INPUT_BYTES_MAX" \
    -dict=dictionary -print_final_stats=1 "$@"
}

case "${1:-}" in
  targets) targets ;;
  merge)
    need_fuzzer
    cd "$REPO_DIR/fuzz"
    CARGO_TARGET_DIR="$CACHE_DIR/fuzz-target" cargo +nightly fuzz run --fuzz-dir . "$2" \
      "corpus/$2" "$CACHE_DIR/fuzz/$2" -- -merge=1 -timeout="$INPUT_SECONDS" -max_len="$INPUT_BYTES_MAX"
    ;;
  "" | -h | --help) sed -n '2,4s/^# //p' "${BASH_SOURCE[0]}" ;;
  *)
    targets | grep -qx -- "$1" || die "no target $1; there are: $(targets | tr '\n' ' ')"
    need_fuzzer
    fuzz "$1" -max_total_time="${2:-60}"
    ;;
esac

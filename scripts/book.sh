#!/usr/bin/env bash
# The documents as a site, with mdBook (book.toml). It is built outside the checkout.
#
#   scripts/book.sh build [DIR]   builds it (into DIR, or the cache); prints the folder: open its index.html, no server needed
#   scripts/book.sh check         builds it, a warning being an error; every page is in docs/SUMMARY.md, every link inside leads
#                                 somewhere, nothing is loaded from elsewhere, and every command is run by `./test pages` or
#                                 says why not
#   scripts/book.sh tool          makes sure that mdbook is there; prints its path
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

MDBOOK_VERSION=0.5.4

# Compiled once per version and machine, without its web server. Two callers at once wait for each other.
tool() {
  local folder="$CACHE_DIR/tools/mdbook-$MDBOOK_VERSION"
  if [ ! -x "$folder/bin/mdbook" ]; then
    have cargo || PATH="$HOME/.cargo/bin:$PATH"
    have cargo || die "Rust is missing: install it with rustup (https://rustup.rs), then run this again"
    mkdir -p "$folder"
    (
      flock 9
      if [ ! -x "$folder/bin/mdbook" ]; then
        say "Compiling mdbook $MDBOOK_VERSION (once, some minutes) …"
        CARGO_TARGET_DIR="$folder/target" cargo install mdbook --quiet --locked --version "$MDBOOK_VERSION" \
          --no-default-features --features search --root "$folder" >&2 || exit
        rm -rf -- "$folder/target"
      fi
    ) 9>"$folder/.lock" || die "mdbook could not be compiled"
  fi
  printf '%s\n' "$folder/bin/mdbook"
}

build() {
  local mdbook folder="${1:-$CACHE_DIR/book}" log status=0
  mdbook="$(tool)" || exit
  have python3 || apt_install python3
  mkdir -p "$folder"
  folder="$(cd -- "$folder" && pwd)"
  log="$(mktemp)"
  (cd "$REPO_DIR" && "$mdbook" build --dest-dir "$folder") >"$log" 2>&1 || status=$?
  if [ "$status" -ne 0 ] || grep -qE '\b(WARN|ERROR)\b' "$log"; then
    cat "$log" >&2
    rm -f -- "$log"
    die "the site could not be built without a warning"
  fi
  rm -f -- "$log"
  printf '%s\n' "$folder"
}

# A page that is not in the summary is not in the site.
all_in_summary() {
  local page lost=0
  while IFS= read -r page; do
    if [ "$page" != SUMMARY.md ] && ! grep -qF "]($page)" "$REPO_DIR/docs/SUMMARY.md"; then
      say "docs/$page is not in docs/SUMMARY.md"
      lost=1
    fi
  done < <(cd "$REPO_DIR/docs" && find . -name '*.md' -printf '%P\n' | LC_ALL=C sort)
  return "$lost"
}

check() {
  local folder status=0
  need_python
  folder="$(mktemp -d)"
  # Whatever is wrong is said at once, not one thing after the other.
  all_in_summary || status=1
  python3 -B "$REPO_DIR/tests/pages/test_pages.py" || status=1
  python3 -B "$REPO_DIR/tests/pages/run.py" check || status=1
  if (build "$folder") >/dev/null; then
    python3 -B "$REPO_DIR/tests/pages/check_site.py" "$folder" || status=1
  else
    status=1
  fi
  rm -rf -- "$folder"
  return "$status"
}

case "${1:-}" in
  build) build "${2:-}" ;;
  check) check ;;
  tool) tool ;;
  *)
    sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
    [ $# -eq 0 ] || exit 2
    ;;
esac

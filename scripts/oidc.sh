#!/usr/bin/env bash
# A real OpenID provider for tests (npm oidc-provider, tests/oidc/provider.mjs), on loopback only.
#
#   scripts/oidc.sh fetch       makes sure that its packages are in the cache; prints where its program is
#   scripts/oidc.sh exec DIR    runs it in the foreground (exec): whoever started it owns the process; DIR/ready appears
#                               with its port when it listens
set -euo pipefail
# shellcheck source=common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

OIDC_DIR="$REPO_DIR/tests/oidc"

# Node looks for packages from where a program is, so the program is put beside them, under a name of its own for each of
# its versions; nothing is written into the checkout.
fetch() {
  local folder program
  folder="$("$REPO_DIR/scripts/node.sh" fetch "$OIDC_DIR")"
  program="$folder/provider-$(sha256sum <"$OIDC_DIR/provider.mjs" | cut -c1-12).mjs"
  if [ ! -e "$program" ]; then
    cp "$OIDC_DIR/provider.mjs" "$program.$$"
    mv "$program.$$" "$program"
  fi
  printf '%s\n' "$program"
}

case "${1:-}" in
  fetch) fetch ;;
  exec)
    dir="${2:?a folder}"
    rm -f "$dir/ready"
    program="$(fetch)"
    exec node "$program" "$dir/ready"
    ;;
  *)
    sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
    [ $# -eq 0 ] || exit 2
    ;;
esac

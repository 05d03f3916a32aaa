#!/usr/bin/env bash
# Packages of Node.js that the tests use, in a folder of their own outside the checkout.
#
#   scripts/node.sh fetch DIR    installs what DIR/package-lock.json pins; prints the folder that has node_modules
set -euo pipefail
# shellcheck source=common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

# Once per lock file and machine. Two callers at once wait for each other.
fetch() {
  local from="$1" folder stamp
  need_node
  folder="$CACHE_DIR/node-$(sha256sum <"$from/package-lock.json" | cut -c1-12)"
  stamp="$folder/.complete"
  if [ ! -e "$stamp" ]; then
    mkdir -p "$folder"
    (
      flock 9
      if [ ! -e "$stamp" ]; then
        say "Installing the Node.js packages of $from (once) …"
        cp "$from/package.json" "$from/package-lock.json" "$folder"
        # Nothing of what is installed is run while it is installed.
        (cd "$folder" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >&2) ||
          die "npm could not install what $from/package-lock.json lists"
        touch "$stamp"
      fi
    ) 9>"$folder/.lock"
  fi
  printf '%s\n' "$folder"
}

case "${1:-}" in
  fetch) fetch "${2:?a folder with package-lock.json}" ;;
  *) die "usage: $0 fetch DIR" ;;
esac

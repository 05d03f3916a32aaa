#!/usr/bin/env bash
# The admin UI (ui/): builds it outside the checkout.
#
#   scripts/ui.sh dist     builds it unless that was done; prints the folder to embed, for WSGATEWAY_UI_DIST
#   scripts/ui.sh check    types, components, unit tests, and how much a browser loads
#   scripts/ui.sh folder   prints a folder with the sources and their packages, for the browser tests
set -euo pipefail
# shellcheck source=common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

# What is built is a function of these files.
sources_hash() {
  (cd "$REPO_DIR/ui" && find . -type f -not -path './node_modules/*' -not -path './dist/*' -print0 | LC_ALL=C sort -z | xargs -0 sha256sum) |
    sha256sum | cut -c1-16
}

# A copy of the sources beside their packages. Two callers at once wait for each other.
folder() {
  local packages folder
  packages="$("$REPO_DIR/scripts/node.sh" fetch "$REPO_DIR/ui")" || exit
  folder="$CACHE_DIR/ui-$(sources_hash)"
  (
    flock 9
    if [ ! -e "$folder" ]; then
      # Whole or not at all. Errors are looked at one by one: bash does not end by itself here.
      rm -rf -- "$folder.tmp" || exit
      mkdir -p "$folder.tmp" || exit
      (cd "$REPO_DIR/ui" && tar -c --exclude=./node_modules --exclude=./dist .) |
        tar -x --no-same-owner --mode=u+w -C "$folder.tmp" || exit
      ln -s "$packages/node_modules" "$folder.tmp/node_modules" || exit
      mv "$folder.tmp" "$folder" || exit
    fi
  ) 9>"$folder.lock" || die "the sources of the admin UI could not be copied"
  printf '%s\n' "$folder"
}

dist() {
  local folder
  folder="$(folder)" || exit
  (
    flock 9
    if [ ! -e "$folder/.built" ]; then
      say "Building the admin UI …"
      (cd "$folder" && npx --no-install vite build --logLevel warn >&2) || exit
      # Beside each file, its gzip.
      find "$folder/dist" -type f -size +1k -exec gzip -9 -k -n -f {} + || exit
      touch "$folder/.built"
    fi
  ) 9>"$folder.lock" || die "the admin UI could not be built"
  printf '%s\n' "$folder/dist"
}

check() {
  local folder
  folder="$(folder)" || exit
  dist >/dev/null
  cd "$folder"
  npm run --silent check
  npm test --silent
  npm run --silent size
}

case "${1:-}" in
  dist) dist ;;
  check) check ;;
  folder) folder ;;
  *) die "usage: $0 dist | check | folder" ;;
esac

#!/usr/bin/env bash
# Python with the packages that the tests use (tests/python/requirements.txt), in a folder of its own: nothing is
# installed into the system's Python.
#
#   scripts/python.sh fetch    makes sure that it is there; prints the path of its interpreter
set -euo pipefail
# shellcheck source=common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

REQUIREMENTS="$REPO_DIR/tests/python/requirements.txt"

# Once per list of packages and machine. Two callers at once wait for each other.
fetch() {
  local folder stamp
  need_python
  folder="$CACHE_DIR/python-$(python_version)-$(sha256sum "$REQUIREMENTS" | cut -c1-12)"
  stamp="$folder/.complete"
  if [ ! -e "$stamp" ]; then
    mkdir -p "$folder"
    (
      flock 9
      if [ ! -e "$stamp" ]; then
        say "Installing the Python packages of the tests (once, about 150 MB) …"
        python3 -m venv --clear "$folder/venv" >&2 || die "python3 -m venv failed"
        "$folder/venv/bin/python" -m pip install --disable-pip-version-check --quiet --no-deps \
          -r "$REQUIREMENTS" >&2 || die "pip could not install what $REQUIREMENTS lists"
        "$folder/venv/bin/python" -m pip check >&2 || die "$REQUIREMENTS misses a package"
        touch "$stamp"
      fi
    ) 9>"$folder/.lock"
  fi
  printf '%s\n' "$folder/venv/bin/python"
}

case "${1:-}" in
  fetch) fetch ;;
  *) die "usage: $0 fetch" ;;
esac

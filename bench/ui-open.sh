#!/usr/bin/env bash
# What it costs a gateway, and those who use it, that the admin UI is open in a browser: a node of its own, events to an endpoint
# that echoes, and Chromium with the overview and the Live page open or closed in turns. docs/performance.md has the figures.
#
#   bench/ui-open.sh [--rounds 9] [--seconds 10] [--nodes 1] [--only paced|saturated] [--binary PATH] [--output table|json]
#
# With the default it takes ten minutes, on a machine that does nothing else. The program is the release build with the UI in it.
set -euo pipefail
# shellcheck source=../scripts/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/../scripts/common.sh"

need_node
need_chromium
UI_FOLDER="$("$REPO_DIR/scripts/ui.sh" folder)"
export UI_FOLDER
exec node "$REPO_DIR/bench/ui_open/main.mjs" --binary "$CARGO_TARGET_DIR/release/wsgateway" "$@"

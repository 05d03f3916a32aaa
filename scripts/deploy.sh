#!/usr/bin/env bash
# What is in deploy/: checks it, and makes the Debian package.
#
#   scripts/deploy.sh check          all that can be checked without a Kubernetes and without a Docker daemon; ends with 77
#                                    when all that was looked at is sound, and something could not be looked at
#   scripts/deploy.sh deb [FOLDER]   builds the program (profile dist) and its package; prints the package's path
set -euo pipefail
# shellcheck source=common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"
cd "$REPO_DIR"

TOOLS_DIR="$CACHE_DIR/tools"
HELM_VERSION=v3.22.0
# The oldest Kubernetes that the chart allows, and a new one.
KUBERNETES=(1.27.0 1.33.0)
# Of 0 to 100, as `systemd-analyze security` counts.
EXPOSURE_MAX=20
SKIPPED=77

work=""
skipped=()

# shellcheck disable=SC2317 # called by the trap
clean_up() { [ -z "$work" ] || rm -rf -- "$work"; }
trap clean_up EXIT

# Whole or not at all; two callers at once wait for each other. `once FILE COMMAND…`: COMMAND gets an empty folder to put FILE's
# name into.
once() {
  local file="$1" folder
  shift
  [ ! -e "$file" ] || return 0
  mkdir -p "$(dirname "$file")"
  (
    flock 9
    if [ ! -e "$file" ]; then
      folder="$(mktemp -d "$(dirname "$file")/.new.XXXXXX")" || exit
      "$@" "$folder" || { rm -rf -- "$folder" && exit 1; }
      mv "$folder/$(basename "$file")" "$file" || exit
      rm -rf -- "$folder"
    fi
  ) 9>"$file.lock"
}

# The programs out of Debian's package, which is not installed: that would start a service.
unpack_prometheus() {
  local folder="$1" sudo=()
  have apt-get || { say "prometheus and promtool are missing, and there is no apt-get" && return 1; }
  say "Downloading the Debian package prometheus (once, 20 MB) …"
  if [ "$(id -u)" -ne 0 ] && have sudo; then sudo=(sudo); fi
  (
    cd "$folder" || exit
    # The package lists may be missing or stale.
    if ! apt-get download prometheus >log 2>&1; then
      if ! "${sudo[@]}" apt-get update >>log 2>&1 || ! apt-get download prometheus >>log 2>&1; then
        tail -n 20 log >&2
        exit 1
      fi
    fi
    dpkg -x prometheus_*.deb unpacked && mv unpacked/usr/bin prometheus
  )
}

# Prints the folder of prometheus and promtool.
prometheus_folder() {
  if have prometheus && have promtool; then
    dirname "$(command -v promtool)"
    return
  fi
  once "$TOOLS_DIR/prometheus" unpack_prometheus || die "no Prometheus to check the alerts with"
  printf '%s\n' "$TOOLS_DIR/prometheus"
}

build_helm() {
  say "Building helm $HELM_VERSION (once, some minutes) …"
  CGO_ENABLED=0 GOFLAGS=-trimpath GOBIN="$1" go install -ldflags='-s -w' "helm.sh/helm/v3/cmd/helm@$HELM_VERSION" >"$1/log" 2>&1 ||
    { tail -n 5 "$1/log" >&2 && return 1; }
  mv "$1/helm" "$1/helm-$HELM_VERSION"
}

# Prints the path of helm; fails when there is none and none can be built.
helm_program() {
  if have helm; then
    command -v helm
    return
  fi
  if [ ! -e "$TOOLS_DIR/helm-$HELM_VERSION" ]; then
    have go || return 1
    once "$TOOLS_DIR/helm-$HELM_VERSION" build_helm || return 1
  fi
  printf '%s\n' "$TOOLS_DIR/helm-$HELM_VERSION"
}

skip() {
  say "NOT CHECKED: $*"
  skipped+=("$*")
}

check_prometheus() {
  local bin
  bin="$(prometheus_folder)"
  cp deploy/prometheus/*.yaml "$work"
  # What the configuration names, and an operator makes.
  printf 'a-token' >"$work/wsgateway.token"
  "$bin/promtool" check rules "$work/alerts.yaml"
  "$bin/promtool" test rules "$work/alerts_test.yaml"
  "$bin/promtool" check config "$work/prometheus.yaml"
  "$python" scripts/deploy/check.py alerts
  "$python" scripts/deploy/check.py dashboard "$work/dashboard.yaml"
  "$bin/promtool" check rules --lint=none "$work/dashboard.yaml"
  "$python" scripts/deploy/check.py metrics
  if [ -e docs/metrics.md ]; then
    "$python" scripts/deploy/prometheus_run.py "$bin/prometheus"
  else
    skip "the alerts and the dashboard on a real Prometheus: docs/metrics.md is not there"
  fi
}

# Values that the chart must refuse, and why.
REFUSED=(
  "replica=3|a value that there is not"
  "replicas=0|no nodes"
  "settings.admin.token=0123456789abcdef|a secret among the settings"
  "settings.tracing.headers.authorization=x|a secret among the settings"
  "settings.tracing.sample_ratio=2|more than all traces"
  "settings.client.listen=0.0.0.0:1|a listener, which is the chart's"
  "settings.nodes.name=n1|a section that there is not"
  "secrets.adminToken=short|a token that the node refuses"
  "secrets.cluster={short}|a secret that the node refuses"
  "cluster.seeds=5|more seeds than pods"
  "cluster.seeds=1|a seed that could start a second cluster"
  "serviceMonitor.enabled=true|a scrape without a token"
)

check_chart() {
  local helm chart=deploy/helm/wsgateway values name version entry rendered=()
  if ! helm="$(helm_program)"; then
    skip "the Helm chart: neither helm nor a Go that could build it is here"
    return
  fi
  # Helm says of each link that it follows it.
  for values in "$chart"/ci/*-values.yaml; do
    name="$(basename "$values" -values.yaml)"
    "$helm" lint --strict --quiet "$chart" --values "$values" 2> >(grep -v 'found symbolic link' >&2)
    for version in "${KUBERNETES[@]}"; do
      "$helm" template check "$chart" --namespace gateways --kube-version "$version" --values "$values" \
        >"$work/$name-$version.yaml" 2> >(grep -v 'found symbolic link' >&2)
      rendered+=("$work/$name-$version.yaml")
    done
  done
  "$python" scripts/deploy/check.py chart "${rendered[@]}"
  "$python" scripts/deploy/kept_secrets.py "$helm"
  if [ -x "$CARGO_TARGET_DIR/release/wsgateway" ]; then
    "$python" scripts/deploy/chart_settings.py "$CARGO_TARGET_DIR/release/wsgateway" "$helm"
  else
    skip "the chart's settings on the real program, which is not built (./test build)"
  fi
  for entry in "${REFUSED[@]}"; do
    if "$helm" template check "$chart" --kube-version "${KUBERNETES[0]}" --set "${entry%%|*}" >/dev/null 2>&1; then
      die "the chart takes ${entry%%|*}: ${entry#*|}"
    fi
  done
  say "chart: ${#REFUSED[@]} values are refused that must be"
}

check_docker() {
  local hadolint
  hadolint="$(dirname "$python")/hadolint"
  "$hadolint" deploy/docker/Dockerfile
  "$python" scripts/deploy/check.py docker
  if have docker && docker compose version >/dev/null 2>&1; then
    CLUSTER_SECRET=0123456789abcdef ADMIN_TOKEN=0123456789abcdef docker compose -f deploy/docker-compose.yaml --profile monitoring config --quiet
  fi
}

check_systemd() {
  local unit="$work/wsgateway.service"
  if ! have systemd-analyze; then
    skip "the systemd unit: systemd-analyze is not here"
    return
  fi
  # The program is not installed here.
  sed 's|/usr/bin/wsgateway|/bin/true|' deploy/systemd/wsgateway.service >"$unit"
  systemd-analyze verify --man=no "$unit"
  if systemd-analyze --help | grep -q -- --offline; then
    systemd-analyze security --offline=true --threshold="$EXPOSURE_MAX" "$unit" >"$work/security" ||
      { tail -n 1 "$work/security" >&2 && die "the unit is more exposed than $EXPOSURE_MAX"; }
    tail -n 1 "$work/security"
  fi
}

check_debian() {
  local deb
  have shellcheck || apt_install shellcheck
  shellcheck deploy/debian/post*
  "$python" scripts/deploy/check.py debian
  if PATH="$TOOLS_DIR/bin:$PATH" have cargo-deb && have cargo; then
    # A program that only answers what making the package asks.
    mkdir -p "$work/target/dist"
    printf '#!/bin/sh\necho "# $*"\n' >"$work/target/dist/wsgateway"
    chmod 755 "$work/target/dist/wsgateway"
    deb="$(CARGO_TARGET_DIR="$work/target" package "$work/package")"
    check_package "$deb"
  else
    # Its metadata was read all the same.
    say "NOT CHECKED: the Debian package as cargo-deb makes it, which is not installed (cargo install --locked cargo-deb)"
  fi
}

# What a package holds, and who may read it.
check_package() {
  local listing file
  listing="$(dpkg-deb --contents "$1")"
  for file in "-rwxr-xr-x ./usr/bin/wsgateway" "-rw-r----- ./etc/wsgateway/wsgateway.toml" \
    "-rw------- ./etc/wsgateway/wsgateway.env" "-rw-r--r-- ./usr/share/bash-completion/completions/wsgateway"; do
    awk -v wanted="$file" '$1 " " $6 == wanted { found = 1 } END { exit !found }' <<<"$listing" || die "the package has no $file"
  done
  grep -q 'systemd/system/wsgateway.service$' <<<"$listing" || die "the package has no unit"
  dpkg-deb --info "$1" conffiles | grep -qx /etc/wsgateway/wsgateway.toml || die "the settings are no conffile"
  for file in postinst postrm prerm; do
    dpkg-deb --info "$1" "$file" >"$work/$file"
    sh -n "$work/$file"
    ! grep -q '#DEBHELPER#' "$work/$file" || die "$file of the package still waits for its systemd part"
  done
  # What runs is restarted with an upgrade; nothing is started by an installation.
  grep -q 'deb-systemd-invoke try-restart' "$work/postinst" || die "an upgrade restarts no node"
  ! grep -q 'deb-systemd-invoke start' "$work/postinst" || die "an installation starts a node"
  say "debian: $(basename "$1"), $(wc -l <<<"$listing") files and folders"
}

# Makes the package of $CARGO_TARGET_DIR/dist/wsgateway in a folder; prints its path.
package() {
  local folder="$1" program="$CARGO_TARGET_DIR/dist/wsgateway" completions="$CARGO_TARGET_DIR/dist/completions"
  mkdir -p "$folder" "$completions"
  "$program" completions bash >"$completions/wsgateway.bash"
  "$program" completions zsh >"$completions/_wsgateway"
  "$program" completions fish >"$completions/wsgateway.fish"
  PATH="$TOOLS_DIR/bin:$PATH" cargo deb --quiet --locked --no-build --no-strip --output "$folder" >&2
  printf '%s\n' "$folder"/*.deb
}

make_deb() {
  need_build_tools
  adopt_target
  need_ui or-die
  PATH="$TOOLS_DIR/bin:$PATH" have cargo-deb || cargo install --locked cargo-deb --root "$TOOLS_DIR" >&2
  cargo build --locked --profile dist --bin wsgateway >&2
  package "${1:-$CARGO_TARGET_DIR/debian}"
}

check() {
  python="$(scripts/python.sh fetch)"
  work="$(mktemp -d)"
  check_prometheus
  check_chart
  check_docker
  check_systemd
  check_debian
  [ "${#skipped[@]}" -eq 0 ] || exit "$SKIPPED"
}

case "${1:-}" in
  check) check ;;
  deb) make_deb "${2:-}" ;;
  *) die "usage: $0 check | deb [FOLDER]" ;;
esac

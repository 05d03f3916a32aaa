# shellcheck shell=bash
# What ./run, ./test, scripts/kafka.sh and scripts/oidc.sh share: where things are kept, and installing what is missing.
# Sourced, never run; sets variables and defines functions, does nothing else.

# shellcheck disable=SC2034 # used by those who source this
REPO_DIR="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)"
# Everything that is downloaded or built is kept outside the checkout, so that the checkout stays clean and several
# checkouts share one build of RocksDB and librdkafka.
CACHE_DIR="${XDG_CACHE_HOME:-$HOME/.cache}/wsgateway"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$CACHE_DIR/target}"

# What compiling RocksDB (clang, libclang) and librdkafka (cmake, curl, ssl, sasl, zlib, zstd, lz4) needs.
BUILD_PACKAGES=(
  build-essential cmake clang libclang-dev pkg-config
  libssl-dev libsasl2-dev libcurl4-openssl-dev zlib1g-dev libzstd-dev liblz4-dev
)
# Kafka 4 runs on Java 17 or newer.
JAVA_MIN=17
# The pinned packages of the tests want at least this Python 3.
PYTHON_MIN=10
# oidc-provider 8 runs on Node.js 18 or newer.
NODE_MIN=18

say() { printf '%s\n' "$*" >&2; }
die() {
  say "error: $*"
  exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

# Installs Debian packages. Quiet unless it fails.
apt_install() {
  local sudo=() log
  have apt-get || die "this system has no apt-get; install by hand what is named here: $*"
  if [ "$(id -u)" -ne 0 ]; then
    have sudo || die "not root and no sudo; install by hand: apt-get install $*"
    sudo=(sudo)
  fi
  say "Installing: $*"
  log="$(mktemp)"
  # The package lists may be missing (a fresh container) or stale: refresh them once, and only when needed.
  if ! "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" >"$log" 2>&1; then
    if ! "${sudo[@]}" apt-get update >>"$log" 2>&1 ||
      ! "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" >>"$log" 2>&1; then
      tail -n 30 "$log" >&2
      rm -f "$log"
      die "apt-get could not install: $*"
    fi
  fi
  rm -f "$log"
}

package_installed() {
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# Says nothing when everything is there.
need_build_tools() {
  local package missing=()
  if have dpkg-query; then
    for package in "${BUILD_PACKAGES[@]}"; do
      package_installed "$package" || missing+=("$package")
    done
    [ "${#missing[@]}" -eq 0 ] || apt_install "${missing[@]}"
  fi
  if ! have cargo && [ -x "$HOME/.cargo/bin/cargo" ]; then
    PATH="$HOME/.cargo/bin:$PATH"
  fi
  have cargo || die "Rust is missing: install it with rustup (https://rustup.rs), then run this again"
}

java_major() {
  # 'openjdk version "17.0.15" …' → 17; "1.8.0" → 1, which is too old all the same.
  java -version 2>&1 | sed -n 's/.*version "\([0-9][0-9]*\).*/\1/p' | head -n 1
}

# Java and Maven, for the real Kafka broker only.
need_java() {
  local missing=() major
  have java || missing+=(default-jre-headless)
  have mvn || missing+=(maven)
  [ "${#missing[@]}" -eq 0 ] || apt_install "${missing[@]}"
  major="$(java_major)"
  if [ "${major:-0}" -lt "$JAVA_MIN" ]; then
    apt_install "openjdk-$JAVA_MIN-jre-headless"
    major="$(java_major)"
    [ "${major:-0}" -ge "$JAVA_MIN" ] || die "Kafka needs Java $JAVA_MIN; java here is ${major:-unknown} (update-alternatives --config java)"
  fi
}

python_version() { python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])'; }

# Python and its venv module, for the tests that drive the gateway with programs that are written in it.
need_python() {
  have python3 || apt_install python3 python3-venv
  python3 -c "import sys; sys.exit(sys.version_info < (3, $PYTHON_MIN))" ||
    die "the tests need Python 3.$PYTHON_MIN or newer; python3 here is $(python_version)"
  # Debian ships the module, but not what it needs, without python3-venv.
  python3 -c 'import venv, ensurepip' 2>/dev/null || apt_install python3-venv
}

# Node.js and npm, for the tests that use a program or library of that world.
need_node() {
  local missing=() major
  have node || missing+=(nodejs)
  have npm || missing+=(npm)
  [ "${#missing[@]}" -eq 0 ] || apt_install "${missing[@]}"
  major="$(node --version | sed -n 's/^v\([0-9][0-9]*\).*/\1/p')"
  [ "${major:-0}" -ge "$NODE_MIN" ] || die "the tests need Node.js $NODE_MIN; node here is ${major:-unknown}"
}

# Whether node can build the admin UI: what vite wants.
node_builds_ui() {
  have node && have npm && node -e '
    const [major, minor] = process.versions.node.split(".").map(Number);
    process.exit((major === 20 && minor >= 19) || (major === 22 && minor >= 12) || major >= 24 ? 0 : 1)'
}

# The admin UI, for cargo to build into the program. With `or-without`, what cannot be had is said, and the program then has
# no UI, and everything else.
need_ui() {
  have node || (apt_install nodejs) || [ "${1:-}" = or-without ] || die "the admin UI needs Node.js"
  have npm || (apt_install npm) || [ "${1:-}" = or-without ] || die "the admin UI needs npm"
  if ! node_builds_ui; then
    say "Building without the admin UI: that needs Node.js 20.19, 22.12, or newer, and npm"
  elif WSGATEWAY_UI_DIST="$("$REPO_DIR/scripts/ui.sh" dist)"; then
    export WSGATEWAY_UI_DIST
  elif [ "${1:-}" = or-without ]; then
    say "Building without the admin UI, which could not be built: see above"
    unset WSGATEWAY_UI_DIST
  else
    die "the admin UI could not be built"
  fi
}

# The browser of the client tests is the system's; none is ever downloaded.
need_chromium() { [ -x /usr/bin/chromium ] || apt_install chromium; }

# RocksDB's build folder is what takes the time; when it is there, the build is a matter of minutes.
target_is_cold() {
  ! compgen -G "$CARGO_TARGET_DIR/release/deps/liblibrocksdb_sys-*.rlib" >/dev/null
}

# A build from nothing takes less.
ADOPT_SECONDS=3600

# Cargo takes the same file of two checkouts for one file, and the older for unchanged: after another checkout has used
# the target folder, the workspace's own crates (not the dependencies) must be compiled anew.
adopt_target() {
  local stamp="$CARGO_TARGET_DIR/.checkout" last=""
  [ ! -e "$stamp" ] || last="$(cat "$stamp")"
  if [ "$last" != "$REPO_DIR" ]; then
    mkdir -p "$CARGO_TARGET_DIR/release"
    # Cargo holds this lock while it builds: another checkout's build must not lose its files in the middle.
    if ! flock -w "$ADOPT_SECONDS" "$CARGO_TARGET_DIR/release/.cargo-lock" \
      rm -rf "$CARGO_TARGET_DIR"/release/.fingerprint/{wsgateway,chaos,bench}-*; then
      die "another build has held $CARGO_TARGET_DIR for $ADOPT_SECONDS s"
    fi
    printf '%s\n' "$REPO_DIR" >"$stamp"
  fi
}

say_if_cold() {
  if target_is_cold; then
    say "First build on this machine: RocksDB and librdkafka are compiled from source, which takes a quarter of an hour"
    say "or more on two cores. It happens once; the result is kept in $CARGO_TARGET_DIR."
  fi
}

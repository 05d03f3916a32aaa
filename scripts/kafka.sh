#!/usr/bin/env bash
# A real Kafka broker for tests and for `./run --kafka`: one process, KRaft, no ZooKeeper, on loopback only.
#
#   scripts/kafka.sh fetch               makes sure that the jars are in the cache; prints their folder
#   scripts/kafka.sh start DIR [PORT]    starts a broker with its data in DIR; when it answers, prints "PID PORT"
#                                        (without PORT: a free one). The log is DIR/broker.log
#   scripts/kafka.sh stop PID            ends it and waits until it is gone
#   scripts/kafka.sh exec DIR [PORT]     like start, but stays in the foreground as the broker itself (exec): whoever
#                                        started it owns the process; DIR/ready appears when it answers
set -euo pipefail
# shellcheck source=common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

KAFKA_DIR="$REPO_DIR/scripts/kafka"
READY_SECONDS=90

kafka_version() { sed -n 's|.*<kafka.version>\(.*\)</kafka.version>.*|\1|p' "$KAFKA_DIR/pom.xml"; }

# The jars, once per version and machine. Two callers at once wait for each other.
fetch() {
  local jars stamp
  jars="$CACHE_DIR/kafka-$(kafka_version)"
  stamp="$jars/.complete"
  if [ ! -e "$stamp" ] || ! cmp -s "$stamp" "$KAFKA_DIR/pom.xml"; then
    need_java
    mkdir -p "$jars"
    (
      flock 9
      if ! cmp -s "$stamp" "$KAFKA_DIR/pom.xml"; then
        say "Fetching Kafka $(kafka_version) with Maven (once, about 45 MB) …"
        find "$jars" -name '*.jar' -delete
        mvn -B -q -f "$KAFKA_DIR/pom.xml" dependency:copy-dependencies \
          "-DoutputDirectory=$jars" -DincludeScope=runtime >&2 || die "Maven could not fetch Kafka's jars"
        cp "$KAFKA_DIR/pom.xml" "$stamp"
      fi
    ) 9>"$jars/.lock"
  fi
  printf '%s\n' "$jars"
}

port_is_free() { ! (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# A port outside the kernel's ephemeral range, so that no client socket takes it between this look and the bind.
free_port() {
  local port _
  for _ in $(seq 1 200); do
    port=$((20000 + (RANDOM * 32768 + RANDOM) % 10000))
    if port_is_free "$port"; then
      printf '%s\n' "$port"
      return
    fi
  done
  die "found no free port"
}

# Writes the configuration, formats the storage (unless DIR holds a formatted one, as after a restart), and sets the
# command to run in KAFKA_COMMAND.
prepare() {
  local dir="$1" port="$2" jars controller_port
  jars="$(fetch)"
  controller_port="$(free_port)"
  mkdir -p "$dir"
  cat >"$dir/server.properties" <<PROPERTIES
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$controller_port
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$controller_port
advertised.listeners=PLAINTEXT://127.0.0.1:$port
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=$dir/data
auto.create.topics.enable=true
num.partitions=3
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
controlled.shutdown.enable=false
num.network.threads=1
num.io.threads=2
background.threads=2
PROPERTIES
  # One JIT tier and the serial collector: a broker that starts fast and leaves the cores to the tests.
  KAFKA_COMMAND=(java -Xmx512m -Xms128m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xshare:auto
    "-Dlog4j2.configurationFile=$KAFKA_DIR/log4j2.properties" "-Dkafka.logs.dir=$dir"
    -cp "$jars/*")
  if [ ! -e "$dir/data/meta.properties" ]; then
    "${KAFKA_COMMAND[@]}" kafka.tools.StorageTool format --ignore-formatted \
      --cluster-id "AAAAAAAAAAAAAAAAAAAAAA" --config "$dir/server.properties" >"$dir/format.log" 2>&1 ||
      { cat "$dir/format.log" >&2; die "Kafka's storage could not be formatted"; }
  fi
  KAFKA_COMMAND+=(kafka.Kafka "$dir/server.properties")
}

# Ready means that the broker answers an ApiVersions request, not merely that the port is open.
answers() {
  local port="$1" reply
  # length 20, api key 18 (ApiVersions), version 0, correlation id 7, client id "wsgateway"; the reply starts with its
  # length and the same correlation id.
  # shellcheck disable=SC2016 # $1 is for the inner shell
  reply="$(
    timeout 2 bash -c '
      exec 3<>"/dev/tcp/127.0.0.1/$1"
      printf "\0\0\0\023\0\022\0\0\0\0\0\007\0\011wsgateway" >&3
      head -c 8 <&3 | od -An -tx1 | tr -d " \n"' _ "$port" 2>/dev/null
  )" || return 1
  [ "${reply:8:8}" = 00000007 ]
}

wait_ready() {
  local pid="$1" port="$2" dir="$3" deadline=$((SECONDS + READY_SECONDS))
  until answers "$port"; do
    if ! kill -0 "$pid" 2>/dev/null; then
      tail -n 40 "$dir/broker.log" >&2
      die "the Kafka broker ended while starting"
    fi
    if [ "$SECONDS" -ge "$deadline" ]; then
      kill -9 "$pid" 2>/dev/null || true
      tail -n 40 "$dir/broker.log" >&2
      die "the Kafka broker did not answer within $READY_SECONDS s"
    fi
    sleep 0.2
  done
}

start() {
  local dir="$1" port="${2:-}" pid
  [ -n "$port" ] || port="$(free_port)"
  prepare "$dir" "$port"
  # A session of its own: Ctrl-C in a terminal is for the gateway first, the broker is stopped after it.
  setsid "${KAFKA_COMMAND[@]}" </dev/null >"$dir/broker.log" 2>&1 &
  pid=$!
  wait_ready "$pid" "$port" "$dir"
  printf '%s %s\n' "$pid" "$port"
}

run_in_foreground() {
  local dir="$1" port="${2:-}" pid=$$
  [ -n "$port" ] || port="$(free_port)"
  rm -f "$dir/ready"
  prepare "$dir" "$port"
  # The watcher must not outlive the broker, nor hold the caller's pipes.
  (wait_ready "$pid" "$port" "$dir" && printf '%s\n' "$port" >"$dir/ready.tmp" && mv "$dir/ready.tmp" "$dir/ready") \
    </dev/null >"$dir/wait.log" 2>&1 &
  exec "${KAFKA_COMMAND[@]}" </dev/null >"$dir/broker.log" 2>&1
}

stop() {
  local pid="$1" _
  kill "$pid" 2>/dev/null || return 0
  for _ in $(seq 1 100); do
    kill -0 "$pid" 2>/dev/null || return 0
    sleep 0.1
  done
  kill -9 "$pid" 2>/dev/null || true
}

case "${1:-}" in
  fetch) fetch ;;
  start) start "${2:?a folder for the data}" "${3:-}" ;;
  exec) run_in_foreground "${2:?a folder for the data}" "${3:-}" ;;
  stop) stop "${2:?the pid that start printed}" ;;
  *)
    sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
    [ $# -eq 0 ] || exit 2
    ;;
esac

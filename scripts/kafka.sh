#!/usr/bin/env bash
# A real Kafka broker for tests and for `./run --kafka`: one process, KRaft, no ZooKeeper, on loopback only.
#
#   scripts/kafka.sh fetch               makes sure that the jars are in the cache; prints their folder
#   scripts/kafka.sh start DIR [PORT]    starts a broker with its data in DIR; when it answers, prints "PID PORT"
#                                        (without PORT: a free one). The log is DIR/broker.log
#   scripts/kafka.sh stop PID            ends it and waits until it is gone
#   scripts/kafka.sh exec DIR [PORT]     like start, but stays in the foreground as the broker itself (exec): whoever
#                                        started it owns the process; DIR/ready appears when it answers
#   scripts/kafka.sh exec-secured DIR [PORT]
#                                        the same with listeners SSL, MTLS (SSL with client certificates), SASL_PLAINTEXT
#                                        and SASL_SSL beside: DIR/ready holds their ports behind the first one's, in this
#                                        order. DIR/tls has ca.pem, client.pem and client.key of it, and other-ca.pem, which
#                                        has signed nothing. The user of SASL is alice, her password alice-secret
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
  local dir="$1" port="$2" secured="${3:-}" jars controller_port scram=()
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
  if [ -n "$secured" ]; then
    secure "$dir" "$port"
    scram=(--add-scram 'SCRAM-SHA-256=[name=alice,password=alice-secret]'
      --add-scram 'SCRAM-SHA-512=[name=alice,password=alice-secret]')
  fi
  # One JIT tier and the serial collector: a broker that starts fast and leaves the cores to the tests.
  KAFKA_COMMAND=(java -Xmx512m -Xms128m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xshare:auto
    "-Dlog4j2.configurationFile=$KAFKA_DIR/log4j2.properties" "-Dkafka.logs.dir=$dir"
    -cp "$jars/*")
  if [ ! -e "$dir/data/meta.properties" ]; then
    "${KAFKA_COMMAND[@]}" kafka.tools.StorageTool format --ignore-formatted \
      --cluster-id "AAAAAAAAAAAAAAAAAAAAAA" --config "$dir/server.properties" ${scram[@]+"${scram[@]}"} >"$dir/format.log" 2>&1 ||
      { cat "$dir/format.log" >&2; die "Kafka's storage could not be formatted"; }
  fi
  KAFKA_COMMAND+=(kafka.Kafka "$dir/server.properties")
}

# Certificates of this broker alone: an authority, the broker's and a client's.
certificates() {
  local tls="$1" name
  [ ! -e "$tls/complete" ] || return 0
  mkdir -p "$tls"
  local key=(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes)
  for name in ca other-ca; do
    openssl req -x509 "${key[@]}" -days 2 -subj "/CN=$name of the tests" -keyout "$tls/$name.key" -out "$tls/$name.pem"
  done
  for name in broker client; do
    openssl req "${key[@]}" -subj "/CN=$name" -keyout "$tls/$name.key" -out "$tls/$name.csr"
    openssl x509 -req -in "$tls/$name.csr" -days 2 -CA "$tls/ca.pem" -CAkey "$tls/ca.key" -CAcreateserial \
      -extfile <(printf 'subjectAltName=IP:127.0.0.1\n') -out "$tls/$name.pem"
  done
  cat "$tls/broker.key" "$tls/broker.pem" >"$tls/keystore.pem"
  touch "$tls/complete"
}

# Adds the secured listeners to the configuration that `prepare` has written; their ports in SECURED_PORTS.
secure() {
  local dir="$1" port="$2" name listeners advertised earlier=()
  SECURED_PORTS=()
  certificates "$dir/tls" >"$dir/tls.log" 2>&1 || { cat "$dir/tls.log" >&2; die "no certificates could be made"; }
  listeners="$(sed -n 's/^listeners=//p' "$dir/server.properties")"
  advertised="PLAINTEXT://127.0.0.1:$port"
  # A broker that starts again is where it was.
  if [ -e "$dir/secured-ports" ]; then read -ra earlier <"$dir/secured-ports"; fi
  for name in SSL MTLS SASL_PLAINTEXT SASL_SSL; do
    SECURED_PORTS+=("${earlier[${#SECURED_PORTS[@]}]:-$(free_port)}")
    listeners+=",$name://127.0.0.1:${SECURED_PORTS[-1]}"
    advertised+=",$name://127.0.0.1:${SECURED_PORTS[-1]}"
  done
  printf '%s\n' "${SECURED_PORTS[*]}" >"$dir/secured-ports"
  sed -i '/^\(advertised\.\)\?listeners=/d; /^listener\.security\.protocol\.map=/d' "$dir/server.properties"
  cat >>"$dir/server.properties" <<PROPERTIES
listeners=$listeners
advertised.listeners=$advertised
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SSL:SSL,MTLS:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL
ssl.keystore.type=PEM
ssl.keystore.location=$dir/tls/keystore.pem
ssl.truststore.type=PEM
ssl.truststore.location=$dir/tls/ca.pem
listener.name.mtls.ssl.client.auth=required
PROPERTIES
  for name in sasl_plaintext sasl_ssl; do
    cat >>"$dir/server.properties" <<PROPERTIES
listener.name.$name.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
listener.name.$name.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_alice="alice-secret";
listener.name.$name.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.$name.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
PROPERTIES
  done
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
  local secured="$1" dir="$2" port="${3:-}" pid=$$
  [ -n "$port" ] || port="$(free_port)"
  rm -f "$dir/ready"
  SECURED_PORTS=()
  prepare "$dir" "$port" "$secured"
  # The watcher must not outlive the broker, nor hold the caller's pipes.
  (wait_ready "$pid" "$port" "$dir" && printf '%s\n' "$port ${SECURED_PORTS[*]}" >"$dir/ready.tmp" && mv "$dir/ready.tmp" "$dir/ready") \
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
  exec) run_in_foreground "" "${2:?a folder for the data}" "${3:-}" ;;
  exec-secured) run_in_foreground secured "${2:?a folder for the data}" "${3:-}" ;;
  stop) stop "${2:?the pid that start printed}" ;;
  *)
    sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
    [ $# -eq 0 ] || exit 2
    ;;
esac

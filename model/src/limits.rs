//! Every limit and default of an endpoint, with its reason. Called by everyone; imports nothing.

/// Largest endpoint document, in bytes: it is replicated by Raft and kept for every version.
pub const DOCUMENT_BYTES_MAX: usize = 1024 * 1024;

/// Routes of one endpoint. An event may have to be tested against all of them.
pub const ROUTES_MAX: usize = 255;
/// Backends of one route. Each takes a copy of the event.
pub const BACKENDS_MAX: usize = 10;
/// Shortest endpoint path, in bytes: `/` alone would hide health checks of load balancers behind an endpoint.
pub const PATH_BYTES_MIN: usize = 2;
/// Longest endpoint path, in bytes.
pub const PATH_BYTES_MAX: usize = 255;

/// Nesting of and/or/not in one expression. Evaluation and compilation recurse, so the stack bounds it.
pub const EXPRESSION_DEPTH_MAX: usize = 32;
/// Comparisons in one expression.
pub const EXPRESSION_LEAVES_MAX: usize = 256;

/// Longest JSONPath, in bytes.
pub const JSON_PATH_BYTES_MAX: usize = 512;
/// Descendant segments (`..`) in one JSONPath, filters included: two of them cost the square of the event's nodes.
pub const JSON_PATH_DESCENDANTS_MAX: usize = 1;
/// Product of the selector counts of a path's bracketed unions: `[0,0][0,0]…` doubles the node list at every step.
pub const JSON_PATH_UNION_PRODUCT_MAX: usize = 16;
/// Nesting of parentheses and brackets in one JSONPath, checked before the (backtracking) parser sees it.
pub const JSON_PATH_NESTING_MAX: usize = 6;
/// Filter selectors (`[?…]`) in one JSONPath: each evaluates its condition at every node it is offered.
pub const JSON_PATH_FILTERS_MAX: usize = 4;

/// Longest regular expression of `matches`, in bytes.
pub const REGEX_BYTES_MAX: usize = 2048;
/// Compiled size of one regular expression, in bytes: `(\w{1000}){1000}` must be refused, not built.
pub const REGEX_COMPILED_BYTES_MAX: usize = 256 * 1024;
/// Regular expressions of one endpoint: together with the size of each, a bound on its memory on every node.
pub const REGEXES_MAX: usize = 256;

/// Nesting of a JSON text: serde_json's own recursion limit, restated because documents promise it.
pub const JSON_DEPTH_MAX: usize = 127;

/// Largest `maxMessageBytes` of a document: what one message may make the gateway hold.
pub const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Events of one connection that are accepted but not yet delivered, unless the document says otherwise.
pub const MAX_IN_FLIGHT_DEFAULT: u32 = 64;
/// Pings: often enough to keep common 60 s idle time-outs of proxies open.
pub const HEARTBEAT_INTERVAL_SECONDS_DEFAULT: u64 = 15;
/// Missed pongs until a connection is closed with 4408.
pub const HEARTBEAT_MAX_MISSING_DEFAULT: u32 = 3;
/// Largest client message, in bytes (128 KiB, what API Gateway of AWS allows).
pub const MAX_MESSAGE_BYTES_DEFAULT: u64 = 131_072;
/// Bytes queued for a client that reads slowly.
pub const OUTBOX_BYTES_DEFAULT: u64 = 262_144;
/// Messages queued for a client that reads slowly.
pub const OUTBOX_MESSAGES_DEFAULT: u32 = 256;

/// How long a connection waits for a client that lost its network, where its endpoint lets it: phones change networks in
/// seconds, trains leave tunnels within a minute.
pub const RESUME_WINDOW_SECONDS_DEFAULT: u64 = 60;
/// What is kept of messages for such a client.
pub const RESUME_BYTES_DEFAULT: u64 = 262_144;

/// Whole time of one HTTP delivery, in milliseconds.
pub const HTTP_TIMEOUT_MILLIS_DEFAULT: u64 = 1_500;
/// Time for an HTTP backend's connection to be made, in milliseconds.
pub const HTTP_CONNECT_TIMEOUT_MILLIS_DEFAULT: u64 = 200;
/// Requests of one HTTP backend under way on one node at once.
pub const HTTP_MAX_IN_FLIGHT_DEFAULT: u32 = 1_024;

/// Deliveries of one connection to one backend at once, where its events need not be in order.
pub const BACKEND_PARALLELISM_DEFAULT: u32 = 8;

/// Requests of one event, the first included: a service that restarts, or is busy for a moment, loses none.
pub const RETRY_ATTEMPTS_DEFAULT: u32 = 3;
/// Longest pause before the second attempt, in milliseconds.
pub const RETRY_BACKOFF_MILLIS_DEFAULT: u64 = 100;
/// Longest pause before any attempt, in milliseconds: the events behind it on its connection wait as long.
pub const RETRY_MAX_BACKOFF_MILLIS_DEFAULT: u64 = 2_000;
/// Failures in a row that open a circuit breaker which the document has and does not say more of.
pub const BREAKER_FAILURES_DEFAULT: u32 = 5;
/// How long such a breaker stays open, in milliseconds: a service that is back is found within seconds.
pub const BREAKER_OPEN_MILLIS_DEFAULT: u64 = 2_000;
/// Largest body of a batch, in bytes, unless the document says otherwise: what many services take at most.
pub const BATCH_BYTES_DEFAULT: u64 = 1024 * 1024;

/// Largest message that a source takes: Kafka's own limit of a record unless it was raised. Links between nodes take 4 MiB.
pub const SOURCE_MESSAGE_BYTES_MAX: usize = 1024 * 1024;

/// Connections or users that one record of a source may name; the others are left out.
pub const SOURCE_NAMES_MAX: usize = 1_000;
/// Longest Kafka topic name: Kafka's own rule.
pub const KAFKA_TOPIC_BYTES_MAX: usize = 249;

/// Header in which an API key is expected, unless the document names another.
pub const API_KEY_NAME_DEFAULT: &str = "X-Api-Key";
/// Shorter literal API keys are accepted with a warning: their fast hash only suits keys that cannot be guessed.
pub const API_KEY_BYTES_ADVISED: usize = 16;
/// Longest identity that an authentication server may name, in bytes: it travels in a header of every event.
pub const USER_BYTES_MAX: usize = 1_024;
/// Claims of one connection, in bytes of JSON: each connection keeps its own.
pub const CLAIMS_BYTES_MAX: usize = 16 * 1024;
/// Groups that a connection may be in: each has its place in an index.
pub const GROUPS_MAX: usize = 64;
/// Longest name of a group, in bytes.
pub const GROUP_BYTES_MAX: usize = 255;
/// Tags of one connection.
pub const TAGS_MAX: usize = 32;
/// Tags of one connection, in bytes of JSON: each connection keeps its own.
pub const TAGS_BYTES_MAX: usize = 4 * 1024;
/// Longest condition on connections, in bytes: it travels in a URL, and with the message to every node.
pub const CONNECTION_FILTER_BYTES_MAX: usize = 4 * 1024;
/// Regular expressions of such a condition: each node compiles it for each message.
pub const CONNECTION_FILTER_REGEXES_MAX: usize = 4;
/// How long a server's yes to a token is good for, unless the document says otherwise, in seconds.
pub const TOKEN_CACHE_SECONDS_DEFAULT: u64 = 30;
/// A credential that someone else can revoke is checked again so often, in seconds: with the time-out of a check, a
/// revocation reaches open connections within a minute.
pub const RECHECK_SECONDS_DEFAULT: u64 = 45;
/// Tolerance for clocks that differ, in seconds, unless the document says otherwise.
pub const LEEWAY_SECONDS_DEFAULT: u64 = 10;
/// Longest URL of a document, in bytes.
pub const URL_BYTES_MAX: usize = 2_048;

/// Additional headers of one backend.
pub const HEADERS_MAX: usize = 64;
/// Longest header value, in bytes.
pub const HEADER_VALUE_BYTES_MAX: usize = 4_096;

/// Longest template, in bytes.
pub const TEMPLATE_BYTES_MAX: usize = 32 * 1024;
/// Steps of one evaluation of a template; each also pays for 64 bytes of data. Measured: the dearest templates take less
/// than 5 ms with it, and twice 64 bytes of each fit into 8 MiB.
pub const TEMPLATE_FUEL: usize = 50_000;
/// Largest output of a template, and largest event that a template looks at, in bytes.
pub const TEMPLATE_OUTPUT_BYTES_MAX: usize = 1024 * 1024;
/// Words and signs of one expression of a template: the engine's compiler recurses over chains such as `a + a + a`.
pub const TEMPLATE_TAG_TOKENS_MAX: usize = 400;
/// Nesting of brackets in one expression of a template: the engine's parser recurses.
pub const TEMPLATE_BRACKETS_MAX: usize = 24;
/// Nesting of `if` and `for` in a template.
pub const TEMPLATE_BLOCKS_MAX: usize = 16;

/// Parts of one JSON Schema of events, each counted wherever a reference leads to it.
pub const SCHEMA_PARTS_MAX: usize = 2_000;
/// Nesting of one JSON Schema of events, references included.
pub const SCHEMA_DEPTH_MAX: usize = 32;
/// Parts of a schema times values of an event, and patterns times eight bytes of it: a few milliseconds.
pub const SCHEMA_STEPS_MAX: usize = 1_000_000;
/// Largest answer of an HTTP backend that goes back to the sender, in bytes.
pub const REPLY_BYTES_MAX: usize = 1024 * 1024;

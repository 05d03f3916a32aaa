//! `wsgateway serve`: runs a node until SIGTERM or Ctrl-C. The same flags serve `wsgateway settings`.

use std::path::PathBuf;

use clap::Args;
use figment::value::{Dict, Value};

use crate::settings;
use crate::telemetry::logs;

/// Settings on the command line win over the environment (WSGATEWAY__ADMIN__LISTEN), that over the file, that over the
/// defaults. Secrets (admin.token, cluster.secrets) belong in the environment or the file.
#[derive(Args)]
#[command(
    after_help = "Example, one of three nodes:\n  wsgateway serve --name n1 --data-dir ./data/n1 --client-listen 127.0.0.1:8081 \\\n    --admin-listen 127.0.0.1:9001 --cluster-listen 127.0.0.1:7001 \\\n    --seeds 127.0.0.1:7001,127.0.0.1:7002,127.0.0.1:7003 --bootstrap-expect 3"
)]
pub struct Serve {
    #[command(flatten)]
    pub flags: Flags,
}

#[derive(Args)]
pub struct Flags {
    /// TOML file with settings
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// Label of this node
    #[arg(long)]
    name: Option<String>,
    /// Folder of this node's database
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// Worker threads; 0: one per core
    #[arg(long)]
    workers: Option<u64>,
    /// Where WebSocket clients connect
    #[arg(long)]
    client_listen: Option<String>,
    /// Addresses or CIDR blocks of proxies whose Forwarded or X-Forwarded-For is believed
    #[arg(long, value_delimiter = ',')]
    trusted_proxies: Option<Vec<String>>,
    /// Where operators and pushing services call
    #[arg(long)]
    admin_listen: Option<String>,
    /// Where other nodes connect (TCP) and gossip (UDP)
    #[arg(long)]
    cluster_listen: Option<String>,
    /// How other nodes reach this one, when not at --cluster-listen
    #[arg(long)]
    advertise: Option<String>,
    /// Cluster addresses that a new cluster starts from; the same on all nodes
    #[arg(long, value_delimiter = ',')]
    seeds: Option<Vec<String>>,
    /// Nodes that must be there before a new cluster is made; 0: join only
    #[arg(long)]
    bootstrap_expect: Option<u64>,
    /// Brokers of Kafka backends that name none
    #[arg(long)]
    kafka_bootstrap_servers: Option<String>,
    /// Seconds over which a leaving node closes its connections
    #[arg(long)]
    drain_seconds: Option<u64>,
    /// Log directives, such as info,wsgateway=debug
    #[arg(long)]
    log_filter: Option<String>,
    /// text or json
    #[arg(long)]
    log_format: Option<String>,
}

impl Flags {
    /// Only what was given, in the settings' shape.
    pub fn to_dict(&self) -> Dict {
        let text = |value: &Option<String>| value.clone().map(Value::from);
        let number = |value: &Option<u64>| value.map(Value::from);
        let path = |value: &Option<PathBuf>| value.as_ref().map(|path| Value::from(path.display().to_string()));
        let seeds = self.seeds.clone().map(Value::from);
        let proxies = self.trusted_proxies.clone().map(Value::from);
        let given = [
            ("node", "name", text(&self.name)),
            ("node", "data_dir", path(&self.data_dir)),
            ("node", "workers", number(&self.workers)),
            ("node", "drain_seconds", number(&self.drain_seconds)),
            ("client", "listen", text(&self.client_listen)),
            ("client", "trusted_proxies", proxies),
            ("admin", "listen", text(&self.admin_listen)),
            ("cluster", "listen", text(&self.cluster_listen)),
            ("cluster", "advertise", text(&self.advertise)),
            ("cluster", "seeds", seeds),
            ("cluster", "bootstrap_expect", number(&self.bootstrap_expect)),
            ("kafka", "bootstrap_servers", text(&self.kafka_bootstrap_servers)),
            ("log", "filter", text(&self.log_filter)),
            ("log", "format", text(&self.log_format)),
        ];
        let mut dict = Dict::new();
        for (section, key, value) in given {
            let Some(value) = value else { continue };
            let section = dict.entry(section.to_owned()).or_insert_with(|| Dict::new().into());
            if let Value::Dict(_, keys) = section {
                keys.insert(key.to_owned(), value);
            }
        }
        dict
    }
}

impl Serve {
    pub fn run(self) -> anyhow::Result<()> {
        let settings = settings::load(self.flags.config.as_ref(), self.flags.to_dict())?;
        let log = &settings.log;
        logs::init(&log.filter, log.format, log.per_second_max).map_err(anyhow::Error::msg)?;
        let ended = actix_rt::System::new().block_on(crate::app::serve(settings));
        if let Err(err) = &ended {
            tracing::error!("{err:#}");
            eprintln!("error: {err:#}");
        }
        end_at_once(ended.is_err())
    }
}

/// Ends the process without the C++ destructors that a return from `main` runs: threads that are about to end by
/// themselves may still hold the database, and abort when RocksDB's globals are destroyed under them ("pthread lock:
/// Invalid argument", signal 6 after an orderly leave). Nothing is lost: what was acknowledged is synced.
fn end_at_once(failed: bool) -> ! {
    // SAFETY: takes a plain number and does not return.
    unsafe { libc::_exit(i32::from(failed)) }
}

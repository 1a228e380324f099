//! The engine that many servers share.

use std::io;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use tokio::time::sleep;
use tracing::{info, warn};

use super::names::Names;
use crate::config::{self, read_file, unusable};
use crate::store::{Options, Redis, RedisOptions};
use crate::time::SystemClock;

/// How often the server tries to reach the engine when it starts.
const TRY_EVERY: Duration = Duration::from_secs(1);

/// The options of the engine.
#[derive(clap::Args)]
pub(super) struct StoreArgs {
    /// Keep all pools in Valkey or Redis, which several servers may share: the URL of a single node, or of some nodes of a
    /// cluster, such as redis://10.0.0.1:6379,10.0.0.2:6379, or rediss:// for TLS
    #[arg(long, env = "TOKEN_ORCHESTRATOR_STORE", value_name = "URL[,HOST:PORT…]")]
    pub(super) store: Option<Nodes>,
    /// The user as whom to log in there; without it, as the default user
    #[arg(long, env = "TOKEN_ORCHESTRATOR_STORE_USER", value_name = "NAME")]
    store_user: Option<String>,
    /// The file with the password for it
    #[arg(long, env = "TOKEN_ORCHESTRATOR_STORE_PASSWORD_FILE", value_name = "FILE")]
    store_password_file: Option<PathBuf>,
    /// The file with the certificates of the authorities that vouch for the nodes, in PEM, with rediss://; without it, those
    /// that the system trusts
    #[arg(long, env = "TOKEN_ORCHESTRATOR_STORE_CA_FILE", value_name = "FILE")]
    store_ca_file: Option<PathBuf>,
    /// How many replicas of a shard must have a change before it is answered. With 1, and one replica for each primary, a
    /// failover forgets nothing that was answered
    #[arg(
        long,
        env = "TOKEN_ORCHESTRATOR_STORE_REPLICAS_ACK",
        default_value_t = 0,
        value_name = "NUMBER"
    )]
    store_replicas_ack: u32,
    /// How long Valkey or Redis may take to answer before requests are refused with 503: from 1ms to 30d
    #[arg(long, env = "TOKEN_ORCHESTRATOR_STORE_TIMEOUT", default_value = "1s",
          value_name = "DURATION", value_parser = config::parse_max_ms)]
    store_timeout: u32,
    /// What all keys in Valkey or Redis begin with. Servers that share pools must have the same, and others a different one
    #[arg(long, env = "TOKEN_ORCHESTRATOR_STORE_PREFIX", default_value = "to", value_name = "TEXT",
          value_parser = parse_prefix)]
    store_prefix: String,
    /// Over how many shards the keys of a new pool are spread in Valkey or Redis, from 1 to 1024: some times as many as a
    /// cluster will ever have primaries
    #[arg(long, env = "TOKEN_ORCHESTRATOR_STORE_SHARDS", default_value_t = 64, value_name = "NUMBER",
          value_parser = parse_shards)]
    store_shards: usize,
}

/// The nodes of a URL with several.
#[derive(Clone, Debug)]
pub(super) struct Nodes {
    scheme: &'static str,
    addresses: Vec<String>,
}

impl FromStr for Nodes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = "must be a URL such as redis://10.0.0.1:6379, or rediss:// for TLS; further nodes of a cluster follow, as in \
                    redis://10.0.0.1:6379,10.0.0.2:6379";
        let schemes = ["redis", "rediss"];
        let (scheme, rest) = text.split_once("://").ok_or(form)?;
        let scheme = schemes.into_iter().find(|known| *known == scheme).ok_or(form)?;
        if rest.contains('@') {
            return Err(
                "must not name a user or a password, which others could see in the list of processes; use --store-user \
                 and --store-password-file"
                    .to_owned(),
            );
        }
        let addresses: Vec<String> =
            rest.trim_end_matches('/').split(',').map(str::to_owned).collect();
        let is_address = |address: &String| {
            address.rsplit_once(':').is_some_and(|(host, port)| {
                !host.is_empty() && !host.contains('/') && port.parse::<u16>().is_ok()
            })
        };
        if addresses.iter().all(is_address) {
            Ok(Self { scheme, addresses })
        } else {
            Err(form.to_owned())
        }
    }
}

fn parse_prefix(text: &str) -> Result<String, String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-:".contains(c);
    if (1..=64).contains(&text.len()) && text.chars().all(is_plain) {
        return Ok(text.to_owned());
    }
    Err("must be 1 to 64 letters, digits, dots, underscores, hyphens and colons, such as team-a"
        .to_owned())
}

fn parse_shards(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|shards| (1..=1024).contains(shards));
    number.ok_or_else(|| "must be a number from 1 to 1024".to_owned())
}

impl StoreArgs {
    /// Checks the options against each other.
    ///
    /// # Errors
    ///
    /// A message that names the options in conflict.
    pub(super) fn check(&self, names: &Names, has_data_dir: bool) -> Result<(), String> {
        let others = [
            (self.store_user.is_some(), "store-user"),
            (self.store_password_file.is_some(), "store-password-file"),
            (self.store_ca_file.is_some(), "store-ca-file"),
            (self.store_replicas_ack > 0, "store-replicas-ack"),
        ];
        let other = others.into_iter().find(|(is_given, _)| *is_given);
        match (&self.store, other) {
            (None, Some((_, option))) => Err(format!("{} needs --store URL", names.name(option))),
            (Some(_), _) if has_data_dir => Err(format!(
                "{} and {} exclude each other: Valkey or Redis keeps the pools, and decides what survives",
                names.name("store"),
                names.name("data-dir")
            )),
            (Some(_), Some((_, option @ "store-user"))) if self.store_password_file.is_none() => {
                Err(format!("{} needs --store-password-file FILE", names.name(option)))
            }
            (Some(nodes), _) if self.store_ca_file.is_some() && nodes.scheme != "rediss" => {
                Err(format!("{} needs a store at rediss://", names.name("store-ca-file")))
            }
            _ => Ok(()),
        }
    }

    /// Connects to the engine. As long as it cannot be reached, it tries again.
    ///
    /// # Errors
    ///
    /// If the engine does not let the server use it, or the password cannot be read.
    pub(super) async fn open(
        &self,
        nodes: &Nodes,
        names: &Names,
        options: Options,
    ) -> io::Result<Redis<SystemClock>> {
        let password = self.store_password_file.as_deref().map(|path| {
            let content = read_file(path)?;
            let text = str::from_utf8(&content).map_err(|_| unusable(path, &"it is no text"))?;
            Ok::<_, io::Error>(text.trim_end_matches(['\r', '\n']).to_owned())
        });
        let password =
            password.transpose().map_err(|error| names.blame(&["store-password-file"], &error))?;
        let authorities = self.store_ca_file.as_deref().map(read_file).transpose();
        let authorities = authorities.map_err(|error| names.blame(&["store-ca-file"], &error))?;
        let redis = RedisOptions {
            nodes: nodes
                .addresses
                .iter()
                .map(|address| format!("{}://{address}", nodes.scheme))
                .collect(),
            user: self.store_user.clone(),
            password,
            authorities,
            replicas_ack: self.store_replicas_ack,
            timeout: Duration::from_millis(self.store_timeout.into()),
            prefix: self.store_prefix.clone(),
        };
        let options = Options { shards: self.store_shards, ..options };
        let shown = nodes.addresses.join(",");
        let mut has_failed = false;
        loop {
            match Redis::open(&redis, options, SystemClock::new()).await {
                Ok(store) => {
                    info!("the pools are in the store at {shown}");
                    return Ok(store);
                }
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    return Err(names.blame(&["store"], &error));
                }
                Err(error) if !has_failed => {
                    warn!(
                        "the store at {shown} cannot be used: {error}; the server tries again each second"
                    );
                    has_failed = true;
                }
                Err(_) => {}
            }
            sleep(TRY_EVERY).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_a_url_of_some_nodes() {
        let nodes: Nodes = "redis://a:1,[::1]:6379".parse().unwrap();
        assert_eq!(
            (nodes.scheme, &nodes.addresses[..]),
            ("redis", &["a:1".to_owned(), "[::1]:6379".to_owned()][..])
        );
        assert_eq!("rediss://h:6379/".parse::<Nodes>().unwrap().scheme, "rediss");
        for text in [
            "",
            "a:1",
            "http://a:1",
            "redis://",
            "redis://a",
            "redis://a:b",
            "redis://a:1,",
            "redis://a:1/2",
        ] {
            assert!(text.parse::<Nodes>().unwrap_err().contains("such as redis://"), "{text}");
        }
        assert!("redis://u:p@h:1".parse::<Nodes>().unwrap_err().contains("--store-password-file"));
    }
}

//! How the engine is reached.

use std::fmt;
use std::time::Duration;

/// Where the engine is, and how long it may take.
#[derive(Clone)]
pub struct RedisOptions {
    /// URLs of nodes, such as `redis://10.0.0.1:6379`: of a single one, or of some of a cluster.
    pub nodes: Vec<String>,
    /// The user as whom to log in, if not as the default user.
    pub user: Option<String>,
    /// The password for it.
    pub password: Option<String>,
    /// The certificates of the authorities that vouch for the nodes, in PEM, for `rediss://`; by default those of the system.
    pub authorities: Option<Vec<u8>>,
    /// How many replicas must have a change before it is answered.
    pub replicas_ack: u32,
    /// How long a call may take before the store counts as unavailable.
    pub timeout: Duration,
    /// What all keys in the engine begin with, so that several deployments may share it.
    pub prefix: String,
}

impl fmt::Debug for RedisOptions {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { nodes, user, prefix, .. } = self;
        f.debug_struct("RedisOptions")
            .field("nodes", nodes)
            .field("user", user)
            .field("prefix", prefix)
            .finish_non_exhaustive()
    }
}

//! The option that says where LXD listens, and the one client that a step makes of it.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;

use crate::{Client, Error};

/// Where the servers that the lab supports listen, in the order in which they are tried.
pub const SOCKETS: [&str; 3] = ["/var/snap/lxd/common/lxd/unix.socket", "/var/lib/lxd/unix.socket", "/var/lib/incus/unix.socket"];

/// The options by which a step finds LXD.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct Connection {
    /// LXD's unix socket, as a path or as `unix:` with a path. If unset, the sockets of the snap, of the distribution's LXD and of
    /// Incus are tried in this order.
    #[schemars(regex(pattern = "^(unix:)?/"), extend("aliases" = ["lxd_socket_uri"], "global" = "lxd_socket_path"))]
    pub lxd_socket_path: Option<String>,
    #[serde(skip)]
    client: OnceCell<Client>,
}

impl Connection {
    /// The connection to the server, made when it is first asked for.
    pub async fn client(&self) -> Result<&Client, Error> {
        self.client.get_or_try_init(async || Client::unix(&self.socket()?).await).await
    }

    /// The socket of the option, else the first that exists.
    pub fn socket(&self) -> Result<PathBuf, Error> {
        let given = self.lxd_socket_path.as_deref().map(|path| PathBuf::from(path.strip_prefix("unix:").unwrap_or(path)));
        let candidates = given.map_or_else(|| SOCKETS.map(PathBuf::from).to_vec(), |path| vec![path]);
        // A folder that may not be entered hides its socket; connecting then says so better than skipping it would.
        let there = |path: &&PathBuf| Path::try_exists(path).unwrap_or(true);
        candidates.iter().find(there).cloned().ok_or(Error::NoSocket { probed: candidates })
    }
}

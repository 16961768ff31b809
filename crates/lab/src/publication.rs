//! How the API of a cluster is published: at which port, and by what a published port is known as the lab's own.

use std::{fmt, str::FromStr};

/// On a Cluster: the port at which its API is published.
pub const PORT_ANNOTATION: &str = "k8s-lab.io/api-proxy-port";

/// On an instance that Cluster API made: its cluster.
pub const CLUSTER_KEY: &str = "user.cluster-name";
/// On an instance that Cluster API made: the namespace of its cluster.
pub const NAMESPACE_KEY: &str = "user.cluster-namespace";
/// On an instance that Cluster API made: what it is for.
pub const ROLE_KEY: &str = "user.cluster-role";
/// What a load balancer is for.
pub const LOAD_BALANCER: &str = "loadbalancer";

/// What the lab's forwards are, by [`OWNER_KEY`](crate::names::OWNER_KEY).
pub const OWNER: &str = "api";
/// What the devices that publish an API are called, but for their number.
pub const DEVICE: &str = "k8slab-api-";

const FIRST_PORT: u32 = 20_000;
const PORTS: u32 = 10_000;
const MARK: &str = "k8slab: API of ";

/// The port of a cluster that is given none: it depends on nothing but the name, so that everybody can tell it.
#[must_use]
pub fn port(cluster: &str) -> u16 {
    // The remainder is below ten thousand.
    u16::try_from(FIRST_PORT + adler32(cluster.as_bytes()) % PORTS).unwrap_or_default()
}

/// The checksum of zlib.
fn adler32(bytes: &[u8]) -> u32 {
    const PRIME: u32 = 65_521;
    let step = |(low, high), byte: &u8| {
        let low = (low + u32::from(*byte)) % PRIME;
        (low, (high + low) % PRIME)
    };
    let (low, high) = bytes.iter().fold((1, 0), step);
    high << 16 | low
}

/// Whose API is published. As text it stands at every port that the lab publishes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Publication {
    /// The project of its instances.
    pub project: String,
    /// The namespace of its Cluster.
    pub namespace: String,
    /// The name of its Cluster.
    pub cluster: String,
}

impl Publication {
    /// Whether a port with this description is the lab's.
    #[must_use]
    pub fn marks(description: &str) -> bool {
        description.parse::<Self>().is_ok()
    }
}

impl fmt::Display for Publication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{MARK}{}/{}/{}", self.project, self.namespace, self.cluster)
    }
}

/// The text marks no port of the lab's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is not marked as a port of the lab's")]
pub struct Unmarked;

impl FromStr for Publication {
    type Err = Unmarked;

    fn from_str(text: &str) -> Result<Self, Unmarked> {
        let mut parts = text.strip_prefix(MARK).ok_or(Unmarked)?.split('/').map(str::to_owned);
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(project), Some(namespace), Some(cluster), None) => Ok(Self { project, namespace, cluster }),
            _ => Err(Unmarked),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Terraform's module computes it, too; its tests read the same table.
    #[test]
    fn the_port_follows_from_the_name() {
        let table = include_str!("../../../terraform/modules/workload_cluster/modules/port/tests/ports.json");
        let table: BTreeMap<String, u16> = serde_json::from_str(table).unwrap();
        assert!(table.len() >= 8);
        for (name, expected) in table {
            assert_eq!(port(&name), expected, "{name}");
        }
        for (name, checksum) in [
            ("mgmt-1", 137_495_060),
            ("lab-default", 412_746_818),
            ("data-pipeline", 590_087_454),
            ("prod-a", 142_803_524),
            ("prod-b", 142_869_061),
            ("prod-default", 515_572_936),
            ("prod-other", 371_000_325),
            ("lab", 40_567_088),
        ] {
            assert_eq!(adler32(name.as_bytes()), checksum, "{name}");
        }
    }

    #[test]
    fn a_mark_is_read_as_it_was_written() {
        let publication = Publication { project: "capi-lab".into(), namespace: "capi-clusters".into(), cluster: "mgmt-1".into() };
        assert_eq!(publication.to_string(), "k8slab: API of capi-lab/capi-clusters/mgmt-1");
        assert_eq!(publication.to_string().parse(), Ok(publication));
        for text in ["", "k8slab: API of ", "k8slab: API of a/b", "k8slab: API of a/b/c/d", "capi-lab/capi-clusters/mgmt-1"] {
            assert_eq!(text.parse::<Publication>(), Err(Unmarked), "{text}");
        }
    }
}

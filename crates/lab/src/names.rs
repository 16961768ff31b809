//! Names and the patterns they follow.

/// A project or a storage pool.
pub const OBJECT: &str = "^[a-z][a-z0-9_-]{0,62}$";
/// A managed network: its name is a host interface's, which is at most fifteen bytes long.
pub const NETWORK: &str = "^[a-z][a-z0-9_-]{0,14}$";
/// An instance: its name is a host name.
pub const INSTANCE: &str = "^[a-z][a-z0-9-]{0,62}$";

/// An interface inside an instance.
pub const INTERFACE: &str = "^[A-Za-z0-9._-]{1,15}$";

/// A namespace of Kubernetes.
pub const NAMESPACE: &str = "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$";

/// The project that confines the lab.
pub const PROJECT: &str = "capi-lab";
/// The pool that carries instances and images.
pub const POOL: &str = "capi-fast";
/// The internal network of all instances.
pub const INTERNAL_NETWORK: &str = "capi-int";
/// The host's bridge to the outside.
pub const EXTERNAL_BRIDGE: &str = "br-ext6";
/// The instance that carries the bootstrap cluster.
pub const BOOTSTRAP_INSTANCE: &str = "capi-bootstrap-0";
/// The cluster that takes Cluster API's objects over.
pub const MANAGEMENT_CLUSTER: &str = "mgmt-1";
/// The namespace of the clusters' objects.
pub const CLUSTERS_NAMESPACE: &str = "capi-clusters";
/// What the aliases of images for the bootstrap instance begin with.
pub const BOOTSTRAP_IMAGES: &str = "k8slab/bootstrap/";
/// What the aliases of images for nodes begin with; the version of Kubernetes follows.
pub const NODE_IMAGES: &str = "kubeadm/";
/// The alias of the image of load balancers.
pub const LOAD_BALANCER_IMAGE: &str = "haproxy";
/// The interface on the internal network, inside instances.
pub const INTERNAL_INTERFACE: &str = "eth0";
/// The interface on the external bridge, inside instances.
pub const EXTERNAL_INTERFACE: &str = "eth1";

/// On an instance or a forward that a step of the lab made: what it is.
pub const OWNER_KEY: &str = "user.k8slab.role";
/// What the bootstrap instance is.
pub const BOOTSTRAP_ROLE: &str = "bootstrap";

/// What the project is described as, unless a user says otherwise.
pub const PROJECT_DESCRIPTION: &str = "k8slab: Cluster API lab";
/// What the storage pool is described as, unless a user says otherwise.
pub const POOL_DESCRIPTION: &str = "k8slab: instances and images";
/// What the internal network is described as, unless a user says otherwise.
pub const NETWORK_DESCRIPTION: &str = "k8slab: internal network";
/// What the group of the infrastructure provider's identities is described as, on servers that have such.
pub const PROVIDER_GROUP_DESCRIPTION: &str = "k8slab: may use the instances of the lab's project";

//! What there is in LXD: instances, the load balancer among them, and who the provider is there.

pub mod action;
pub mod identity;
pub mod image;
pub mod instance;
pub mod load_balancer;

//! Kubernetes, as far as the lab's steps deal with it.
//!
//! A [`Client`] is made of a [`Kubeconfig`] and reads and applies objects; a [`Condition`] is watched until it holds; the
//! [`providers`] of Cluster API are read from clusterctl's inventory, and [`Clusterctl`] runs clusterctl itself.

mod client;
pub mod clusterctl;
pub mod condition;
mod error;
mod kubeconfig;
pub mod pods;
pub mod providers;
pub mod resource;
mod yaml;

pub use client::{Client, FIELD_MANAGER};
pub use clusterctl::Clusterctl;
pub use condition::Condition;
pub use error::Error;
pub use kube::core::DynamicObject;
pub use kubeconfig::{Kubeconfig, TLS_SERVER_NAME};
pub use resource::Resource;
pub use yaml::yaml;

//! Kubernetes, as far as the lab's steps deal with it.
//!
//! A [`Client`] is made of a [`Kubeconfig`] and reads and applies objects; a [`Condition`] is watched until it holds; the
//! [`providers`] of Cluster API are read from clusterctl's inventory, and [`Clusterctl`] runs clusterctl itself.

pub mod capi;
pub mod class;
mod client;
pub mod clusterctl;
pub mod condition;
mod error;
mod kinds;
mod kubeconfig;
mod metadata;
pub mod pods;
pub mod providers;
pub mod resource;
mod rollout;
mod watch;
mod yaml;

pub use client::{Client, FIELD_MANAGER};
pub use clusterctl::{Clusterctl, no_proxy};
pub use condition::Condition;
pub use error::{Error, if_there};
pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
pub use kinds::{Kind, api_resource};
pub use kube::core::{ApiResource, DynamicObject};
pub use kubeconfig::{Kubeconfig, TLS_SERVER_NAME};
pub use resource::Resource;
pub use yaml::yaml;

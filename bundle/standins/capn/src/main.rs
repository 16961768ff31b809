//! Stand-in for Cluster API's infrastructure provider for LXD and Incus, for labs that have nothing but package registries.
//!
//! The same manifests have to work with the real provider, so this one follows version 0.8 of it: its kinds, defaults, reasons and
//! contract. It goes further where nobody can rely on it: it looks at LXD's events, and has Cluster API wait until the load balancer
//! sends nobody to a machine that is deleted.

mod api;
mod controllers;
mod health;
mod infrastructure;
mod manifest;

use std::num::NonZeroU16;

use clap::{Args, Parser, Subcommand};

use crate::api::conditions::Contract;

/// Stand-in for Cluster API's infrastructure provider for LXD and Incus.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Reconciles clusters and machines.
    Run(Settings),
    /// Prints the components that `clusterctl` installs.
    Manifest {
        /// Reference of the manager's image.
        #[arg(long)]
        image: String,
        /// Contract of Cluster API that the provider keeps.
        #[arg(long, value_enum, default_value_t)]
        contract: Contract,
    },
    /// Prints the provider's metadata for `clusterctl`.
    Metadata {
        /// Contract of Cluster API that the provider keeps.
        #[arg(long, value_enum, default_value_t)]
        contract: Contract,
    },
}

/// How the manager runs. Where the real manager has the flag, it is called as there.
#[derive(Args)]
struct Settings {
    /// Namespace to look at; all of them, if it is empty.
    #[arg(long, default_value = "")]
    namespace: String,
    /// How many instances are made at once. LXD 5.0 gives two that are made at once ids that one of them may not have.
    #[arg(long, default_value = "10")]
    concurrency: NonZeroU16,
    /// Port of /healthz and /readyz.
    #[arg(long, default_value_t = health::PORT)]
    health_port: u16,
    /// Contract of Cluster API to keep; the one that the custom resource definitions name.
    #[arg(long, value_enum, default_value_t)]
    contract: Contract,
}

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    match Arguments::parse().command {
        Command::Manifest { image, contract } => print!("{}", manifest::components(&image, contract)?),
        Command::Metadata { contract } => print!("{}", manifest::metadata(contract)?),
        Command::Run(settings) => run(&settings)?,
    }
    Ok(())
}

#[tokio::main]
async fn run(settings: &Settings) -> Result<(), Failure> {
    tracing_subscriber::fmt().with_max_level(tracing::Level::INFO).with_writer(std::io::stderr).init();
    let kube = kube::Client::try_default().await?;
    let readiness = health::Readiness::default();
    tokio::select! {
        served = health::serve(settings.health_port, readiness.clone()) => match served? {},
        () = controllers::run(kube, settings, readiness.clone()) => Ok(()),
    }
}

//! Stand-in for Cluster API's infrastructure provider for LXD and Incus, for labs that have nothing but package registries.

mod api;
mod balancer;
mod capi;
mod cluster;
mod conditions;
mod context;
mod controllers;
mod deed;
mod health;
mod identity;
mod instance;
mod machine;
mod manifest;
mod reconcile;
mod template;

use clap::{Parser, Subcommand};

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
    Run {
        /// Namespace to look at; all of them, if it is empty.
        #[arg(long, default_value = "")]
        namespace: String,
        /// Port of /healthz and /readyz.
        #[arg(long, default_value_t = health::PORT)]
        health_port: u16,
    },
    /// Prints the components that `clusterctl` installs.
    Manifest {
        /// Reference of the manager's image.
        #[arg(long)]
        image: String,
    },
    /// Prints the provider's metadata for `clusterctl`.
    Metadata,
}

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    match Arguments::parse().command {
        Command::Manifest { image } => print!("{}", manifest::components(&image)?),
        Command::Metadata => print!("{}", manifest::metadata()?),
        Command::Run { namespace, health_port } => run(&namespace, health_port)?,
    }
    Ok(())
}

#[tokio::main]
async fn run(namespace: &str, health_port: u16) -> Result<(), Failure> {
    tracing_subscriber::fmt().with_max_level(tracing::Level::INFO).with_writer(std::io::stderr).init();
    let kube = kube::Client::try_default().await?;
    let readiness = health::Readiness::default();
    tokio::select! {
        served = health::serve(health_port, readiness.clone()) => match served? {},
        () = controllers::run(kube, namespace, readiness.clone()) => Ok(()),
    }
}

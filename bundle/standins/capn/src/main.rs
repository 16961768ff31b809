//! Stand-in for Cluster API's infrastructure provider for LXD and Incus.

mod api;
mod health;
mod manifest;

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
        Command::Run { health_port, .. } => first_cut(health_port)?,
    }
    Ok(())
}

#[tokio::main]
async fn first_cut(health_port: u16) -> Result<(), Failure> {
    let readiness = health::Readiness::default();
    readiness.declare();
    match health::serve(health_port, readiness).await? {}
}

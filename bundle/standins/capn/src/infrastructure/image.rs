//! Where an instance's image is. Only a machine's image may be named by a shorthand, as with the real provider.

use lxd::Server;
use serde_json::{Value, json};

use super::instance::Invalid;
use crate::api::Image;

/// The real provider's image server. Offline it cannot be reached, so an image has to be named there.
const DEFAULT_SERVER: &str = "https://images.linuxcontainers.org/capn/";
/// The load balancer's image on it.
const LOAD_BALANCER: &str = "haproxy";
/// The image of a machine that names none.
const MACHINE: &str = "capi:kubeadm/VERSION";
/// What stands for the Machine's version in an image's name.
const VERSION: &str = "VERSION";

/// Where an instance's image is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageSource {
    /// In LXD, under an alias.
    Alias(String),
    /// In LXD.
    Fingerprint(String),
    /// On another server.
    Remote {
        /// Its address.
        server: String,
        /// How it is spoken to.
        protocol: String,
        /// The image's alias there.
        alias: String,
        /// The image's fingerprint.
        fingerprint: String,
    },
}

impl ImageSource {
    /// The image of a machine of this version.
    pub fn of_machine(image: &Image, version: Option<&str>, server: &Server) -> Result<Self, Invalid> {
        let name = if image.is_empty() { MACHINE } else { &image.name };
        let name = match version {
            Some(version) => name.replace(VERSION, version),
            None if name.contains(VERSION) => return Err(Invalid::VersionMissing(name.to_owned())),
            None => name.to_owned(),
        };
        let parts: Vec<_> = name.split(':').collect();
        let [prefix, alias] = parts[..] else { return Ok(Self::verbatim(&Image { name, ..image.clone() })) };
        let public = if server.environment.server == "incus" {
            "https://images.linuxcontainers.org"
        } else {
            "https://images.lxd.canonical.com"
        };
        Ok(match prefix {
            "capi" => Self::simplestreams(DEFAULT_SERVER, alias),
            "capi-stg" => Self::simplestreams("https://images-stg.capn.open-cloud.xyz/capn/staging/", alias),
            "images" => Self::simplestreams(public, alias),
            "debian" => Self::simplestreams(public, &format!("debian/{alias}/cloud")),
            "ubuntu" if server.environment.server == "incus" => Self::simplestreams(public, &format!("ubuntu/{alias}/cloud")),
            "ubuntu" => Self::simplestreams("https://cloud-images.ubuntu.com/releases", alias),
            _ => return Err(Invalid::ImagePrefix(name)),
        })
    }

    /// The image of a load balancer.
    pub fn of_load_balancer(image: &Image) -> Self {
        let is_named = !image.name.is_empty() || !image.fingerprint.is_empty();
        if is_named { Self::verbatim(image) } else { Self::simplestreams(DEFAULT_SERVER, LOAD_BALANCER) }
    }

    fn verbatim(image: &Image) -> Self {
        match image {
            Image { server, .. } if !server.is_empty() => Self::Remote {
                server: server.clone(),
                protocol: image.protocol.clone(),
                alias: image.name.clone(),
                fingerprint: image.fingerprint.clone(),
            },
            Image { fingerprint, .. } if !fingerprint.is_empty() => Self::Fingerprint(fingerprint.clone()),
            Image { name, .. } => Self::Alias(name.clone()),
        }
    }

    fn simplestreams(server: &str, alias: &str) -> Self {
        let (server, alias) = (server.to_owned(), alias.to_owned());
        Self::Remote { server, protocol: "simplestreams".to_owned(), alias, fingerprint: String::new() }
    }

    /// What LXD wants to hear.
    pub fn body(&self) -> Value {
        match self {
            Self::Alias(alias) => json!({"type": "image", "alias": alias}),
            Self::Fingerprint(fingerprint) => json!({"type": "image", "fingerprint": fingerprint}),
            Self::Remote { server, protocol, alias, fingerprint } => {
                let mut body = json!({"type": "image", "mode": "pull", "server": server, "protocol": protocol});
                let (key, value) = if fingerprint.is_empty() { ("alias", alias) } else { ("fingerprint", fingerprint) };
                body[key] = json!(value);
                body
            }
        }
    }
}

impl std::fmt::Display for ImageSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Alias(name) | Self::Fingerprint(name) => f.write_str(name),
            Self::Remote { server, alias, fingerprint, .. } => {
                write!(f, "{} of {server}", if alias.is_empty() { fingerprint } else { alias })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(name: &str) -> Image {
        Image { name: name.to_owned(), ..Image::default() }
    }

    #[test]
    fn a_machines_image_is_found_or_refused() {
        let given = Image { server: "https://mirror".into(), protocol: "simplestreams".into(), ..image("x/VERSION") };
        for (case, image, version, expected) in [
            ("a local alias", image("kubeadm/VERSION"), Some("v1.35.0"), "kubeadm/v1.35.0"),
            ("no version in it", image("haproxy"), None, "haproxy"),
            (
                "a shorthand",
                image("capi:kubeadm/VERSION"),
                Some("v1.35.0"),
                "kubeadm/v1.35.0 of https://images.linuxcontainers.org/capn/",
            ),
            ("nothing", image(""), Some("v1.35.0"), "kubeadm/v1.35.0 of https://images.linuxcontainers.org/capn/"),
            ("Debian's", image("debian:12"), None, "debian/12/cloud of https://images.lxd.canonical.com"),
            ("Ubuntu's", image("ubuntu:24.04"), None, "24.04 of https://cloud-images.ubuntu.com/releases"),
            ("a fingerprint", Image { fingerprint: "c0ffee".into(), ..image("") }, None, "c0ffee"),
            ("a server", given, Some("v1"), "x/v1 of https://mirror"),
            ("no version", image("kubeadm/VERSION"), None, "the image's name `kubeadm/VERSION` holds VERSION"),
            ("neither image nor version", image(""), None, "the image's name `capi:kubeadm/VERSION` holds VERSION"),
            ("another shorthand", image("mine:x"), None, "the image's name `mine:x` begins with a shorthand"),
        ] {
            let found = ImageSource::of_machine(&image, version, &Server::default());
            let found = found.map_or_else(|invalid| invalid.to_string(), |source| source.to_string());
            assert!(found.starts_with(expected), "{case}: {found}");
        }
    }

    #[test]
    fn a_load_balancers_image_is_taken_as_it_is_written() {
        for (case, image, expected) in [
            ("nothing", image(""), "haproxy of https://images.linuxcontainers.org/capn/"),
            ("a local alias", image("haproxy"), "haproxy"),
            ("what would be a shorthand", image("capi:haproxy"), "capi:haproxy"),
            ("a server", Image { server: "https://mirror".into(), ..image("haproxy") }, "haproxy of https://mirror"),
        ] {
            assert_eq!(ImageSource::of_load_balancer(&image).to_string(), expected, "{case}");
        }
    }
}

//! The HTTPS listener of a real LXD: who is let in, and which server is believed.
#![cfg(feature = "https")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::TcpListener;

use converge::Explain as _;
use lxd::{Client, Connection, Error, Identity};
use rcgen::{CertificateParams, KeyPair};
use serde_json::json;

struct Certificate {
    pem: String,
    key: String,
}

fn certificate(name: &str) -> Certificate {
    let key = KeyPair::generate().unwrap();
    let pem = CertificateParams::new(vec![name.to_owned()]).unwrap().self_signed(&key).unwrap().pem();
    Certificate { pem, key: key.serialize_pem() }
}

/// A PEM without its armour is the base64 that LXD takes.
fn body(pem: &str) -> String {
    pem.lines().filter(|line| !line.starts_with("-----")).collect()
}

/// The listener's address, opened on a free port of the loopback if the server has none.
async fn listener(local: &Client) -> (String, bool) {
    let config = local.server().config.clone().unwrap_or_default();
    if let Some(address) =
        config.get("core.https_address").and_then(|address| address.as_str()).filter(|address| !address.is_empty())
    {
        return (address.to_owned(), false);
    }
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    local.patch("", &json!({"config": {"core.https_address": address}}), None).await.unwrap();
    (address, true)
}

#[tokio::test]
async fn a_trusted_client_reaches_the_pinned_server_and_no_other() {
    let local = Connection::default().client().await.expect("this test needs LXD: run embedded/host").clone();
    let server_certificate = local.server().environment.certificate.clone();
    let (mine, stranger) = (certificate("k8slab-test"), certificate("k8slab-test-stranger"));
    let (address, opened) = listener(&local).await;
    let url = format!("https://{address}/");
    let name = format!("k8slab-test-{}", std::process::id());
    let trust =
        json!({"type": "client", "name": name, "certificate": body(&mine.pem), "restricted": true, "projects": ["default"]});
    local.post("certificates", &trust).await.unwrap();

    let connect = async |certificate: &Certificate, server_certificate: &str| {
        let identity = Identity { certificate: &certificate.pem, key: &certificate.key, server_certificate };
        Client::https(&url, &identity).await.map(|client| client.server().environment.server.clone())
    };
    let trusted = connect(&mine, &server_certificate).await;
    let untrusted = connect(&stranger, &server_certificate).await;
    let other_server = connect(&mine, &stranger.pem).await;
    let looks = (lxd::listens(&url, &server_certificate).await, lxd::listens(&url, &stranger.pem).await);

    let mut left = Vec::new();
    for path in local.get::<Vec<String>>("certificates").await.unwrap().object {
        let entry: serde_json::Value = local.get(&path).await.unwrap().object;
        if entry["name"] == name.as_str() {
            left.push(local.delete(&path).await);
        }
    }
    if opened {
        local.patch("", &json!({"config": {"core.https_address": ""}}), None).await.unwrap();
    }

    assert_eq!(left.len(), 1);
    assert_eq!(trusted.unwrap(), local.server().environment.server);
    assert!(matches!(&untrusted, Err(Error::NotLxd { reason, .. }) if reason.contains("untrusted")), "{untrusted:?}");
    let refusal = other_server.unwrap_err();
    assert_eq!(refusal.code(), "LXD_OTHER_CERTIFICATE");
    assert!(looks.0.is_ok(), "who only looks need not be trusted: {looks:?}");
    assert!(matches!(looks.1, Err(Error::OtherCertificate { .. })), "{looks:?}");
}

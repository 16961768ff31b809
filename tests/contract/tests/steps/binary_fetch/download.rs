//! What a server, a proxy and a list of checksums may do wrong.

use std::io::{BufRead, BufReader};

use contract::{Page, Web};
use serde_json::json;

use super::{KUBECTL, Mirror, program, sha256};

#[test]
fn a_wrong_checksum_names_both_and_leaves_nothing() {
    let mirror = Mirror::new();
    let (right, wrong) = (sha256(&program(KUBECTL)), sha256(b"tampered"));
    mirror.web.put("/kubectl", Page::Bytes(b"tampered".to_vec()));
    let step = mirror.only_kubectl();
    step.run().expect_code("CHECKSUM_MISMATCH").expect_words(&right).expect_words(&wrong);
    assert_eq!(mirror.bin(), [""; 0]);
    let pinned = mirror.only_kubectl().args(json!({"kubectl_checksum_sha256": wrong}));
    pinned.check().expect_code("CHECKSUM_MISMATCH").expect_words(&right).expect_words(&wrong);
    mirror.machine.write("/opt/capi-lab/bin/kubectl", "the one in use");
    step.run().expect_code("CHECKSUM_MISMATCH");
    assert_eq!(mirror.machine.read("/opt/capi-lab/bin/kubectl").as_deref(), Some("the one in use"));
    mirror.put_kubectl(&program(KUBECTL));
    step.run().expect_changed();
    assert_eq!(mirror.bin(), [".kubectl.json", "kubectl"]);
}

#[test]
fn lists_of_checksums() {
    let mirror = Mirror::new();
    let list = format!("{} *bin/linux/amd64/kubectl\n", sha256(&program(KUBECTL)));
    mirror.web.put("/sums", Page::Bytes(list.into_bytes()));
    let step = mirror.only_kubectl().args(json!({
        "kubectl_checksum_style": "manifest", "kubectl_checksum_url": mirror.web.url("/sums"),
    }));
    step.run().expect_code("CHECKSUM_ENTRY_MISSING");
    step.args(json!({"kubectl_checksum_entry": "bin/linux/amd64/kubectl"})).run().expect_changed();
    mirror.web.put("/page", Page::Bytes(b"<html>sign in</html>".to_vec()));
    let page = mirror.only_kubectl().args(json!({"kubectl_version": "v1.0.0", "kubectl_checksum_url": mirror.web.url("/page")}));
    page.run().expect_code("CHECKSUM_ENTRY_MISSING");
    let gone = mirror.only_kubectl().args(json!({"kubectl_version": "v1.0.0", "kubectl_checksum_url": mirror.web.url("/gone")}));
    gone.run().expect_code("CHECKSUM_FETCH_FAILED").expect_words("404");
}

#[test]
fn what_passes_is_tried_again() {
    let mirror = Mirror::new();
    for page in [Page::Half(program(KUBECTL)), Page::Status(503)] {
        mirror.web.once("/kubectl", page);
    }
    mirror.web.once("/kubectl.sha256", Page::Status(502));
    mirror.only_kubectl().run().expect_changed();
    let tries = |path: &str| mirror.web.requests().iter().filter(|request| *request == path).count();
    assert_eq!((tries("/kubectl.sha256"), tries("/kubectl")), (2, 3));
}

#[test]
fn what_does_not_pass_is_given_up() {
    let mirror = Mirror::new();
    let tries = || mirror.web.requests().iter().filter(|request| *request == "/kubectl").count();
    for (page, expected_tries, code) in [
        (Page::Half(program(KUBECTL)), 4, "DOWNLOAD_FAILED"),
        (Page::Status(500), 4, "DOWNLOAD_STATUS"),
        (Page::Status(404), 1, "DOWNLOAD_STATUS"),
        (Page::Promise(1 << 40), 1, "DOWNLOAD_TOO_LARGE"),
    ] {
        mirror.web.forget();
        mirror.web.put("/kubectl", page.clone());
        mirror.only_kubectl().run().expect_code(code);
        assert_eq!(tries(), expected_tries, "{page:?}");
        assert_eq!(mirror.bin(), [""; 0], "{page:?}");
    }
}

#[test]
fn redirects_stay_with_https() {
    let mirror = Mirror::new();
    mirror.web.put("/latest", Page::Redirect(mirror.web.url("/kubectl")));
    let step = mirror.only_kubectl().args(json!({
        "kubectl_url": mirror.web.url("/latest"), "kubectl_checksum_url": mirror.web.url("/kubectl.sha256"),
    }));
    // Once, and three times again.
    for _ in 0..4 {
        mirror.web.once("/latest", Page::Redirect("http://localhost/kubectl".into()));
    }
    step.run().expect_code("DOWNLOAD_FAILED").expect_words("which is not https");
    step.run().expect_changed();
}

#[test]
fn a_server_that_nobody_vouches_for_is_not_trusted() {
    let mirror = Mirror::new();
    let stranger = Web::start();
    let step = mirror.only_kubectl().env("SSL_CERT_FILE", stranger.authority());
    step.run().expect_code("CHECKSUM_FETCH_FAILED").expect_words("certificate");
    assert_eq!(mirror.web.requests(), [""; 0]);
}

#[test]
fn a_proxy_is_used() {
    let mirror = Mirror::new();
    let proxy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = proxy.local_addr().unwrap();
    let asked = std::thread::spawn(move || {
        let (connection, _) = proxy.accept().unwrap();
        BufReader::new(connection).lines().next().unwrap().unwrap()
    });
    let step = mirror.only_kubectl().env("no_proxy", "").env("https_proxy", format!("http://{address}"));
    let running = step.args(json!({"kubectl_url": "https://dl.example.org/kubectl"})).spawn();
    assert_eq!(asked.join().unwrap(), "CONNECT dl.example.org:443 HTTP/1.1");
    running.kill();
}

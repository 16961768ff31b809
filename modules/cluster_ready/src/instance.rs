//! What LXD knows of a machine that does not come.

use lxd::Connection;

/// What cloud-init writes on a node, kubeadm's words among it.
const LOG: &str = "/var/log/cloud-init-output.log";
/// As much of it as a failure shows.
const TAIL: usize = 15;
/// Lines that may carry what joins a cluster.
const SECRET: [&str; 4] = ["token", "certificate-key", "PRIVATE KEY", "password"];

/// The state of an instance and the last lines that its setup wrote. LXD may be elsewhere, or down: then that is told.
pub(crate) async fn describe(lxd: &Connection, project: &str, instance: &str) -> Vec<String> {
    match look(lxd, project, instance).await {
        Ok(lines) => lines,
        Err(error) => vec![format!("instance {instance}: LXD does not tell: {error}")],
    }
}

async fn look(lxd: &Connection, project: &str, instance: &str) -> Result<Vec<String>, lxd::Error> {
    let client = lxd.client().await?.in_project(project);
    let Some(state) = lxd::if_there(client.instance_state(instance).await)? else {
        return Ok(vec![format!("instance {instance}: there is none")]);
    };
    let addresses: Vec<_> = state.global_addresses("eth0").map(|address| address.to_string()).collect();
    let addresses = if addresses.is_empty() { "no address on eth0".to_owned() } else { addresses.join(", ") };
    let mut lines = vec![format!("instance {instance}: {}, {addresses}", state.status)];
    if let Some((_, log)) = client.read_file(instance, LOG).await? {
        let log = String::from_utf8_lossy(&log).into_owned();
        lines.extend(tail(&log).map(|line| format!("  {line}")));
    }
    Ok(lines)
}

/// The last lines, without those that nobody may see.
fn tail(log: &str) -> impl Iterator<Item = &str> {
    let lines: Vec<_> = log.lines().filter(|line| !line.trim().is_empty()).collect();
    let first = lines.len().saturating_sub(TAIL);
    let is_secret = |line: &str| SECRET.iter().any(|word| line.contains(word));
    lines.into_iter().skip(first).map(move |line| if is_secret(line) { "<redacted>" } else { line })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_and_no_secret() {
        let lines: Vec<_> = (0..40).map(|line| format!("line {line}\n")).collect();
        let log = format!("{}\nkubeadm join 10.0.0.1:6443 --token abcdef.hunter2\nerror: no route\n", lines.join("\n"));
        let shown: Vec<_> = tail(&log).collect();
        assert_eq!((shown.len(), shown[12], shown[13], shown[14]), (TAIL, "line 39", "<redacted>", "error: no route"));
    }
}

//! Files of others by which systemd-networkd does something else with the bridge or its uplink.

use host::networkd::{self, Rival};

use crate::{Backend, LxdHost, bridge::Bridge};

/// What the user should know of them; nothing where networkd has no say.
pub(crate) fn warnings(step: &LxdHost) -> Result<Vec<String>, host::Error> {
    if step.ext_bridge_backend != Backend::Networkd {
        return Ok(Vec::new());
    }
    let mut warnings = Vec::new();
    for (file, link) in Bridge(step).told() {
        for rival in networkd::rivals(&step.root, &file, &link)? {
            let (rival_file, own) = (rival.path().display(), file.display());
            warnings.push(match rival {
                Rival::First(_) => {
                    format!("{rival_file} fits {link} and comes before {own}: systemd-networkd goes by it when the machine starts")
                }
                Rival::Within(_) => format!("{rival_file} adds to {own}, and may say otherwise"),
            });
        }
    }
    Ok(warnings)
}

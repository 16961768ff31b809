"""A lab of its own whose files all come from the offline bundle, so that it can have a bootstrap cluster."""

import contextlib
import os
from pathlib import Path

from throwaway import listener
from throwaway.lab import IMAGE_ALIAS, Lab

BUNDLE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "k8slab" / "bundle"


@contextlib.contextmanager
def bundled(lxd, folder, prefix, size, images=()):
    """The lab, and the variables by which the collection's playbooks make it, with a pool of this size and more of the bundle's images."""
    lab = Lab.throw_away(lxd, prefix=prefix)
    pool = {"name": lab.pool, "driver": "btrfs", "config": {"source": str(lab.loop_file), "size": size}}
    variables = lab.variables | {
        # The machine itself belongs to whoever runs the tests.
        "base_system_enabled": False,
        "lxd_host_enabled": False,
        "k8s_lab_bundle": str(BUNDLE),
        "k8s_lab_opt_root": str(folder / "opt"),
        "lxd_storage_pools_pools": [pool],
        "lxd_images_aliases": [IMAGE_ALIAS, *images],
        "bootstrap_capn_secret_client_cert_cn": lab.name,
        "bootstrap_capn_secret_trust_name": lab.name,
        "export_artifacts_root": str(folder / "artifacts"),
    }
    with listener.lent(lxd, lab) as found:
        lab.lent_listener = found
        # One that is configured and does not answer is nobody's.
        address = {"bootstrap_capn_secret_lxd_https_bind_address": found} if found else {"bootstrap_capn_secret_force_https_address": True}
        try:
            yield lab, variables | address
        finally:
            # Before the listener: LXD refuses to listen again on an address that has gone meanwhile.
            lab.destroy()

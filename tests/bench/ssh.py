"""An SSH server on the loopback for as long as it is needed, with keys of its own."""

import contextlib
import shutil
import socket
import subprocess
import sys
from pathlib import Path

# Bash takes an outermost shell for a login and reads the account's own settings, whose time is nobody's business here.
CONFIGURATION = """\
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host
AuthorizedKeysFile {folder}/client.pub
PidFile none
StrictModes no
UsePAM no
PermitRootLogin prohibit-password
Subsystem sftp internal-sftp
SetEnv SHLVL=1
"""


@contextlib.contextmanager
def server(folder):
    """What gives the variables by which Ansible reaches this machine through a port that leads to it; without one, through its own."""
    folder = Path(folder, "ssh")
    folder.mkdir()
    for key in ("host", "client"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / key], check=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (folder / "sshd_config").write_text(CONFIGURATION.format(port=port, folder=folder))
    # Where it keeps its privileges apart; the package's own service makes it on a machine that runs one.
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    daemon = subprocess.Popen(
        [shutil.which("sshd", path="/usr/sbin:/usr/bin"), "-D", "-e", "-f", folder / "sshd_config"],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        # Its first words come once it listens.
        first_words = daemon.stderr.readline()
        if "listening" not in first_words:
            raise AssertionError(f"no SSH server: {first_words}")
        yield lambda through=port: variables(folder, through)
    finally:
        daemon.terminate()
        daemon.wait()


def variables(folder, port):
    known = f"-o UserKnownHostsFile={folder}/known -o StrictHostKeyChecking=accept-new"
    return {
        "ansible_connection": "ssh",
        "ansible_host": "127.0.0.1",
        "ansible_port": port,
        "ansible_user": "root",
        "ansible_ssh_private_key_file": str(folder / "client"),
        "ansible_ssh_common_args": f"{known} -o ControlMaster=auto -o ControlPersist=60s -o ControlPath={folder}/%C",
        "ansible_python_interpreter": sys.executable,
    }

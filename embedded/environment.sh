# shellcheck shell=bash
# Sourced by the scripts beside it: where the embedded lab lives, how they report, and what several of them do.

shopt -s inherit_errexit
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." || exit

# Debian's LXD; without this, `lxc` would look for a snap's first.
export LXD_DIR=/var/lib/lxd
export ANSIBLE_CONFIG=$PWD/embedded/ansible.cfg

say() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
}

fail() {
    say "$@"
    exit 1
}

# doing WHAT: says what is about to be done. With --check that is all: it fails, so that it is not done.
doing() {
    if [[ ${check:-} == --check ]]; then
        printf '  %-24s%s\n' "${0##*/}" "$*"
        return 1
    fi
    say "$@"
}

# setting NAME: the embedded inventory's value, so that a name of the lab is written down once.
setting() {
    local value
    value=$(sed -n "s/^$1: *//p" inventories/embedded/group_vars/all.yml)
    [[ -n $value ]] || fail "inventories/embedded/group_vars/all.yml sets no $1"
    printf '%s\n' "$value"
}

# not_installed PACKAGE...: those of them that are to be installed, in one line.
not_installed() {
    local installed
    # dpkg-query fails where it has never heard of one of them.
    installed=$(dpkg-query --show --showformat='${db:Status-Status} ${Package}\n' "$@" 2>/dev/null || true)
    comm -23 <(printf 'installed %s\n' "$@" | sort) <(sort <<<"$installed") | cut -d ' ' -f 2 | paste --serial --delimiters=' '
}

# install PACKAGES: one argument, as not_installed gives it.
install() {
    local packages
    read -r -a packages <<<"$1"
    export DEBIAN_FRONTEND=noninteractive DEBCONF_NOWARNINGS=yes
    apt-get --quiet=2 update
    apt-get --quiet=2 --yes --no-install-recommends install "${packages[@]}" >/dev/null
}

lxd_answers() {
    [[ -S $LXD_DIR/unix.socket ]] && timeout 5 lxc query /1.0 >/dev/null 2>&1
}

# Builds the collection and installs it.
install_collection() {
    cargo xtask collection
    install_built_collection
}

# Installs the collection into .venv, where that has another one.
install_built_collection() {
    local version tarball digest installed=.venv/collections/k8slab-capi.sha256
    version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
    tarball=dist/k8slab-capi-$version.tar.gz
    digest=$(sha256sum "$tarball")
    if [[ -f $installed && $(<"$installed") == "$digest" ]]; then
        return
    fi
    say "install $tarball"
    .venv/bin/ansible-galaxy collection install --force --no-deps --collections-path .venv/collections "$tarball" >/dev/null
    printf '%s\n' "$digest" >"$installed"
}

# Whether there is somebody who wants to be asked.
is_asked() {
    [[ -t 0 && -t 1 && ${YES:-} != 1 ]]
}

# playbook NAME ARGUMENT...: one of the collection's. Where nobody can be asked, or YES=1, what it asks is answered with yes.
playbook() {
    local name=$1 said=()
    shift
    is_asked || said=(--extra-vars k8s_lab_assume_yes=true)
    .venv/bin/ansible-playbook "k8slab.capi.$name" "${said[@]}" "$@"
}

# run_alone [LOCK]: two runs of `make lab` or `make destroy` at once would undo each other's work.
run_alone() {
    exec {lock}>"${1:-/run/lock/k8slab-embedded}"
    flock --nonblock "$lock" || fail "another make lab or make destroy is at work here"
}

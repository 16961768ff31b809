# shellcheck shell=bash
# Sourced by the `run` of every suite: what they do alike.

shopt -s inherit_errexit
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." || exit

# suite NAME ARGUMENT...: runs the pytest suite in that folder of tests/ on the collection as it is now; arguments go to pytest.
suite() {
    local name=$1
    shift
    cargo xtask collection
    tests_of "$name" --tarball "$(tarball)" "$@"
}

# tests_of NAME ARGUMENT...: the same, for tests that need no collection.
tests_of() {
    local name=$1
    shift
    PYTHONPATH=tests exec .venv/bin/python -B -m pytest --tb=short --color=auto -v -p no:cacheprovider -p suite --no-header \
        "tests/$name" "$@"
}

# The collection that `cargo xtask collection` builds.
tarball() {
    local version
    version=$(sed -n 's/^version: //p' collection/galaxy.yml)
    printf 'dist/k8slab-capi-%s.tar.gz\n' "$version"
}

# The oldest ansible-core that the collection supports, and the newest that there is.
# shellcheck disable=SC2034 # whoever sources this file uses them
oldest_core=2.16.19 newest_core=2.21.5

# core VERSION: a virtual environment with this ansible-core, made once.
core() {
    local version=$1 folder=target/ansible-core-$1 python wheels
    if [[ ! -x $folder/bin/pytest ]]; then
        local packages=("ansible-core==$version" "pytest==$(sed -n 's/^pytest==//p' embedded/requirements-test.txt)")
        local quietly=(--quiet --disable-pip-version-check)
        # Python 3.11 is too old for what follows 2.19, and its pip does not know later ones.
        if [[ $(printf '%s\n' 2.20 "$version" | sort --version-sort | head -n 1) == 2.20 ]]; then
            python=$(python_of_trixie)
            wheels=(target/trixie/usr/share/python-wheels/pip-*.whl)
            "$python" -m venv --clear --without-pip "$folder" >&2
            "$folder/bin/python" "${wheels[0]}/pip" install "${quietly[@]}" "${packages[@]}" >&2
        else
            .venv/bin/python -m venv --clear "$folder" >&2
            "$folder/bin/pip" install "${quietly[@]}" "${packages[@]}" >&2
        fi
    fi
    printf '%s\n' "$folder"
}

# Debian 13's Python with that release's own libraries, made once.
python_of_trixie() {
    local folder=$PWD/target/trixie
    local libraries=$folder/usr/lib/x86_64-linux-gnu
    if [[ ! -d $folder ]]; then
        if ! command -v patchelf >/dev/null; then
            apt-get --quiet=2 update
            DEBIAN_FRONTEND=noninteractive apt-get --quiet=2 --yes --no-install-recommends install patchelf >/dev/null
        fi
        rm -rf "$folder.half"
        mmdebstrap --quiet --mode=root --variant=extract --include=python3.13,python3-pip-whl trixie "$folder.half" >&2
        patchelf --set-interpreter "$libraries/ld-linux-x86-64.so.2" --force-rpath --set-rpath "$libraries" \
            "$folder.half/usr/bin/python3.13"
        mv "$folder.half" "$folder"
    fi
    printf '%s\n' "$folder/usr/bin/python3.13"
}

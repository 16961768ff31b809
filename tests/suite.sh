# shellcheck shell=bash
# Sourced by the `run` of every suite: what they do alike.

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

# The oldest ansible-core that the collection supports.
# shellcheck disable=SC2034 # whoever sources this file uses it
oldest_core=2.16.19

# core VERSION: a virtual environment with this ansible-core, made once.
core() {
    local version=$1 folder=target/ansible-core-$1
    if [[ ! -x $folder/bin/pytest ]]; then
        "${PYTHON:-.venv/bin/python}" -m venv --clear "$folder" >&2
        "$folder/bin/pip" install --quiet --disable-pip-version-check "ansible-core==$version" \
            "pytest==$(sed -n 's/^pytest==//p' embedded/requirements-test.txt)" >&2
    fi
    printf '%s\n' "$folder"
}

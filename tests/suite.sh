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

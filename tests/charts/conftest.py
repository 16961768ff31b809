"""Helm, in both majors that the charts have to work with."""

import pytest
from helm import Helm, bundled


@pytest.fixture(scope="session")
def helm():
    """The one that a lab has."""
    return Helm(bundled("helm")[0])


@pytest.fixture(scope="session")
def helm3():
    return Helm(bundled("helm3")[0])

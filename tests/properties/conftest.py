"""How the search for counter-examples goes: with no chance from run to run, and nothing left in the checkout."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.configuration import set_hypothesis_home_dir

settings.register_profile(
    "rcil",
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    # A slow machine is no fault.
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("rcil")

# What hypothesis notes of the code while it collects tests; gone when the process ends.
NOTES = tempfile.TemporaryDirectory()
set_hypothesis_home_dir(NOTES.name)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all examples share: those of one test would share `tmp_path`, too."""
    return tmp_path_factory.mktemp("properties")

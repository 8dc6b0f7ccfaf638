"""The data set and the runs of the test suite."""

from tests.conftest import *  # noqa: F403

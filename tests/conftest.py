"""Fixtures for every room."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

from zhiling.data import shared_data

os.environ.setdefault("ZHILING_LANG", "en")  # messages are compared in English unless a test asks for Chinese

# The suite asks the same questions everywhere, so that it fails for a change and not by luck; `make chaos` asks new ones.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("exploring", deadline=None, max_examples=1000)
settings.load_profile(os.environ.get("ZHILING_HYPOTHESIS", "repeatable"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real third-party data; tests that need it skip where it is absent."""
    folder = shared_data()
    if not (folder / "MANIFEST.md").exists():
        pytest.skip("no shared data here: set ZHILING_SHARED to the folder that holds MANIFEST.md")
    return folder


def pytest_addoption(parser: pytest.Parser) -> None:
    """`make chaos` kills more often than the suite does."""
    parser.addoption("--chaos-kills", type=int, default=20, help="how often test_chaos.py kills a run")

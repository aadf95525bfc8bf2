"""Fixtures for every room."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from zhiling.data import shared_data

os.environ.setdefault("ZHILING_LANG", "en")  # messages are compared in English unless a test asks for Chinese


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

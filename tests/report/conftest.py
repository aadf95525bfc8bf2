"""The pages of these tests are made of the same few hundred sentences: each is embedded once, by the real embedder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from zhiling.embed import Use
from zhiling.judging.selftest import Once
from zhiling.report import varied


@pytest.fixture(scope="session", autouse=True)
def _embedded_once() -> Iterator[None]:
    once = Once(Use())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(varied, "Use", lambda: once)
        yield

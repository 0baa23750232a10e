"""What all tests share: golden texts, rewritten by ``pytest --update-golden``."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

GOLDEN = Path(__file__).parent / "golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite golden files with what the tests now give")


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Commands remember what they searched for in a folder of this run, never in the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def same_text(request: pytest.FixtureRequest) -> Callable[[Path, str], None]:
    """Compare a text with a committed file, or rewrite the file under ``--update-golden``."""
    update = bool(request.config.getoption("--update-golden"))

    def check(path: Path, text: str) -> None:
        text = text.rstrip("\n") + "\n"
        if update:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            return
        assert path.exists(), f"{path.name} does not exist; run pytest --update-golden and read what it writes"
        before = path.read_text(encoding="utf-8")
        if before != text:
            lines = difflib.unified_diff(before.splitlines(), text.splitlines(), path.name, "now", lineterm="")
            pytest.fail("\n".join(lines) + "\n(pytest --update-golden accepts it)", pytrace=False)

    return check


@pytest.fixture
def golden(same_text: Callable[[Path, str], None]) -> Callable[[str, str], None]:
    """``golden(name, text)``: the text equals ``tests/golden/NAME.txt``."""

    def check(name: str, text: str) -> None:
        same_text(GOLDEN / f"{name}.txt", text)

    return check

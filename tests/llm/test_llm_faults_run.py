"""Every fault of an endpoint through the whole product: one clear line, an exit code, a ledger that balances, a rerun that finishes.

Each run is the command itself on a small recipe whose third way asks a loopback server, once per candidate. The server answers
four questions and then misbehaves; later the fault is gone and the same command is given again.
"""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import making
import pytest
import yaml
from loopback import Loopback

from zhiling import cli
from zhiling.llm import limit, wrap
from zhiling.recipe import load
from zhiling.run import Run
from zhiling.store import views

SPARE, ASKED = 4, 12
GENERATE = {"candidates": ASKED, "keep": 2, "floor": 0.05, "tasks": ["mood"], "weights": {"echo": 1.0}}


class Ended(NamedTuple):
    """What a user sees of a command."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line that says what is wrong, without its mark; "" when there is none."""
        lines = [line for line in self.err.splitlines() if line.startswith(("error: ", "错误: "))]
        assert len(lines) <= 1 and "Traceback" not in self.err, self.err
        return lines[0].split(": ", 1)[1] if lines else ""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits of milliseconds where a user would have seconds and minutes."""
    monkeypatch.setattr(wrap, "BACKOFF", 0.002)
    monkeypatch.setattr(wrap, "LONGEST_BACKOFF", 0.01)
    monkeypatch.setattr(limit, "PATIENCE", (0.01,) * 3)
    monkeypatch.setattr(limit, "IMPATIENCE", (0.01,) * 2)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Any:
    """Give the command `zhiling ...` in this process."""

    def give(*args: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["zhiling", *map(str, args)])
        capfd.readouterr()
        try:
            cli.main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        return Ended(code, *capfd.readouterr())

    return give


@pytest.fixture(scope="module")
def running() -> Iterator[Loopback]:
    with Loopback() as server:
        yield server


@pytest.fixture
def server(running: Loopback) -> Loopback:
    """The server as new: it answers SPARE questions and then misbehaves as `faults` says."""
    running.done.clear()
    running.tries.clear()
    running.faults, running.spare = {}, SPARE
    return running


def recipe(folder: Path, url: str, **model: Any) -> Path:
    spec = {"provider": "openai", "model": "m", "base_url": url, "lanes": 4, "timeout": 0.3, "retries": 3, **model}
    path = making.write(
        folder,
        shard_rows=500,
        models={"m": spec},
        construct=[{"template": {"per_record": 1}}, {"generate": GENERATE}],
        score=["length"],
        select=["exact"],
    )
    whole = yaml.safe_load(path.read_text(encoding="utf-8"))
    del whole["tasks"]["心情"]
    path.write_text(yaml.safe_dump(whole, allow_unicode=True, sort_keys=False), encoding="utf-8")
    return path


def rows(folder: Path, query: str) -> list[tuple[Any, ...]]:
    return views(folder).execute(query).fetchall()  # type: ignore[no-any-return]


def balanced(folder: Path) -> dict[str, int]:
    """The ledger's states, having checked that rows in are rows out."""
    facts = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    states = dict(rows(folder, "select state, count(*) from ledger group by state"))
    assert facts["came"] == sum(states.values()) == sum(facts["states"].values())
    return states


@pytest.fixture(scope="module")
def calm(running: Loopback, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a run that nothing disturbed."""
    top = tmp_path_factory.mktemp("calm")
    with Run(load(recipe(top / "r", running.url)), top / "out", workers=1) as run:
        run.execute()
    assert balanced(top / "out")["kept"] > 50
    return making.files(top / "out")


@pytest.mark.parametrize(
    "fault",
    [
        "429",
        "429-soon",
        "500",
        "503",
        "reset",
        "cut",
        "truncated",
        "garbage",
        "empty",
        "html502",
        "noise",
        "hang",
        "drip",
    ],
)
def test_a_fault_that_passes_leaves_no_trace_in_the_rows(
    fault: str, server: Loopback, calm: dict[str, bytes], tmp_path: Path, command: Any
) -> None:
    server.faults, server.spare = {fault: 0.4}, 0
    made, out = recipe(tmp_path / "r", server.url, retries=12), tmp_path / "out"
    ended = command("run", made, "-o", out, "--workers", 1)
    assert (ended.code, ended.error) == (0, "")
    assert sum(server.tries.values()) > ASKED == len(server.done) and max(server.done.values()) == 1
    assert making.files(out) == calm


STAYS = [
    ("401", 2, "refused the key", "接口拒绝了密钥"),
    ("404", 2, "no model 'm' at this endpoint", "该接口没有模型“m”"),
    ("quota", 1, "the account's quota is used up", "账户额度已用完"),
    ("429-long", 1, "asks to wait 86400 s", "要求等待 86400 秒"),
    ("429", 1, "too many requests", "请求过多"),
    ("429-soon", 1, "too many requests", "请求过多"),
    ("500", 1, "failed with status 500", "状态码 500"),
    ("503", 1, "failed with status 503", "状态码 503"),
    ("html502", 1, "status 502 (502 Bad Gateway)", "状态码 502"),
    ("hang", 1, "no answer within 0.3 s", "0.3 秒内没有回答"),
    ("drip", 1, "no answer within 0.3 s", "0.3 秒内没有回答"),
    ("reset", 1, "the connection broke off", "连接在回答完成前中断"),
    ("cut", 1, "the connection broke off", "连接在回答完成前中断"),
    ("truncated", 1, "the answer is not JSON", "返回的不是 JSON"),
    ("garbage", 1, "the answer is not JSON", "返回的不是 JSON"),
    ("empty", 1, "the answer holds no choice to read", "返回中没有可读取的回答"),
    ("html", 0, "a web page came back instead of an answer: Sign in", "返回的是网页而不是回答"),
    ("redirect", 0, "redirects to https://elsewhere.example/v1", "重定向到 https://elsewhere.example/v1"),
    ("noise", 1, "does not speak HTTP", "不是 HTTP 接口"),
    ("alien", 0, "not of OpenAI's protocol; it holds: type, content", "不是 OpenAI 协议的内容"),
]
"""(fault, exit code, what is said in English and in Chinese). What asking again cannot mend fails row by row (code 0: the run goes on
without those rows and says so) until the breaker has seen enough of it, which is at once where nothing was ever answered."""


@pytest.mark.parametrize(("fault", "code", "english", "chinese"), STAYS, ids=[row[0] for row in STAYS])
def test_a_fault_that_stays_is_said_in_one_line_and_a_rerun_finishes_the_job(
    fault: str,
    code: int,
    english: str,
    chinese: str,
    server: Loopback,
    calm: dict[str, bytes],
    tmp_path: Path,
    command: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made, out = recipe(tmp_path / "r", server.url), tmp_path / "out"
    server.faults = {fault: 1.0}
    ended = command("run", made, "-o", out, "--workers", 1)
    assert ended.code == code and set(server.done.values()) == {1} and len(server.done) == SPARE
    if code:
        assert english in ended.error
    else:
        assert (ended.error, "8 calls were not answered; the same command asks them" in ended.out) == ("", True)
        whys = rows(out, "select why from ledger where state = 'failed' and stage = 'generate'")
        assert len(whys) == ASKED - SPARE and all(english in why for (why,) in whys) and balanced(out)
    monkeypatch.setenv("ZHILING_LANG", "zh")
    ended = command("run", made, "-o", out, "--workers", 1)  # which has never heard the endpoint answer
    assert ended.code == (code or 1) and chinese in ended.error and len(server.done) == SPARE
    monkeypatch.setenv("ZHILING_LANG", "en")
    server.faults = {}
    assert command("run", made, "-o", out, "--workers", 1).code == 0
    assert len(server.done) == ASKED and set(server.done.values()) == {1}  # no answered question was asked again
    assert making.files(out) == calm and "failed" not in balanced(out)
    tries = sum(server.tries.values())
    assert command("run", made, "-o", out, "--workers", 1).code == 0 and sum(server.tries.values()) == tries


@pytest.mark.parametrize(
    ("fault", "state", "why"),
    [
        ("400", "failed", "status 400"),
        ("blocked", "failed", "content filter"),
        ("filter", "failed", "content filter"),
        ("length", "failed", "cut off at 64 tokens"),
        ("null", "dropped", "too short"),
    ],
)
def test_a_fault_of_some_rows_is_their_own_and_final(
    fault: str, state: str, why: str, server: Loopback, tmp_path: Path, command: Any
) -> None:
    server.faults, server.spare = {fault: 0.5}, 0
    made, out = recipe(tmp_path / "r", server.url), tmp_path / "out"
    ended = command("run", made, "-o", out, "--workers", 1)
    assert (ended.code, ended.error) == (0, "") and balanced(out) and "not answered" not in ended.out
    query = f"select count(*) from ledger where stage = 'generate' and state = '{state}' and why like '%{why}%'"
    ((hit,),) = rows(out, query)
    assert 1 <= hit < ASKED == len(server.tries)
    tries = sum(server.tries.values())
    assert command("run", made, "-o", out, "--workers", 1).code == 0 and sum(server.tries.values()) == tries


def test_an_answer_in_another_models_name_is_pointed_out_once(
    server: Loopback, tmp_path: Path, command: Any, caplog: pytest.LogCaptureFixture
) -> None:
    server.faults, server.spare = {"other-model": 1.0}, 0
    ended = command("run", recipe(tmp_path / "r", server.url), "-o", tmp_path / "out", "--workers", 1)
    assert ended.code == 0 and caplog.text.count("the endpoint answers as 'another-model'") == 1


def _closed() -> str:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}/v1"


BEFORE = [
    ("closed port", {}, 1, "cannot connect: ", "无法连接：", False),
    (
        "no such host",
        {"base_url": "http://no-such-host.invalid/v1", "key_env": ""},
        1,
        "no such host",
        "找不到该主机",
        False,
    ),
    ("https to http", {"https": True}, 1, "does not speak TLS", "对方不支持 TLS", False),
    ("wrong path", {"path": "/elsewhere"}, 2, "no model 'm' at this endpoint (404: Not Found)", "没有模型“m”", False),
    ("wrong key", {"faults": "401"}, 2, "refused the key", "接口拒绝了密钥", False),
    ("unknown model", {"faults": "404"}, 2, "no model 'm' at this endpoint", "没有模型“m”", False),
    ("a page", {"faults": "html"}, 1, "a web page came back", "返回的是网页", False),
    ("another protocol", {"faults": "alien"}, 1, "not of OpenAI's protocol", "不是 OpenAI 协议", False),
    (
        "no key",
        {"base_url": "https://api.deepseek.com/v1"},
        2,
        "DEEPSEEK_API_KEY is empty",
        "DEEPSEEK_API_KEY 为空",
        True,
    ),
    ("no address", {"base_url": "api.openai.com"}, 2, "not an http(s) address", "不是 http(s) 地址", True),
    ("no model named", {"model": None}, 2, "model", "model", True),
]


@pytest.mark.parametrize(("name", "how", "code", "english", "chinese", "early"), BEFORE, ids=[row[0] for row in BEFORE])
def test_what_is_wrong_from_the_start_is_said_in_one_line_before_work_where_it_can_be_known(
    name: str,
    how: dict[str, Any],
    code: int,
    english: str,
    chinese: str,
    early: bool,
    server: Loopback,
    tmp_path: Path,
    command: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("DEEPSEEK_API_KEY", raising=False)
    url = _closed() if name == "closed port" else server.url
    if "faults" in how:
        server.faults, server.spare = {how["faults"]: 1.0}, 0
    url = url.replace("http:", "https:") if "https" in how else url.replace("/v1", how.get("path", "/v1"))
    made = recipe(tmp_path / "r", url, **{key: how[key] for key in ("base_url", "key_env", "model") if key in how})
    for lang, said in (("en", english), ("zh", chinese)):
        monkeypatch.setenv("ZHILING_LANG", lang)
        ended = command("run", made, "-o", tmp_path / "out", "--workers", 1)
        assert said in ended.error and ended.code == code, ended
        assert (tmp_path / "out" / "records").exists() != early

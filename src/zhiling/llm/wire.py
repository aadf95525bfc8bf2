"""What every provider behind HTTP needs: a key that is never shown, a checked address, a session that ends with its event loop."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncGenerator, Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from zhiling.errors import ProviderError, RecipeError, say
from zhiling.llm.price import is_loopback

if TYPE_CHECKING:
    import aiohttp


class Key:
    """An API key that no repr, traceback or log can show."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def __repr__(self) -> str:
        return "***"

    def __reduce__(self) -> str:
        raise TypeError("a key is not pickled")

    def reveal(self) -> str:
        """The key itself, for the call that sends it and nothing else."""
        return self._value

    def hide(self, raw: bytes) -> bytes:
        """The bytes without the key, should an endpoint send it back."""
        value = self._value.encode()
        return raw.replace(value, b"***") if value in raw else raw


def find_key(env: str, where: str, needed: bool) -> Key | None:
    """The key in that environment variable; None when there is none and none is needed.

    Raises ProviderError(kind="auth") for a missing one or one that no header can carry.
    """
    value = os.environ.get(env, "").strip() if env else ""
    if value:
        if not value.isascii() or not value.isprintable() or " " in value:
            raise ProviderError(
                say(f"the key in {env} holds characters that no key has", f"{env} 中的密钥含有非法字符"),
                where=where,
                kind="auth",
            )
        return Key(value)
    if env and not re.fullmatch(
        "[A-Z_][A-Z0-9_]*", env
    ):  # perhaps the key itself: it must not be repeated, nor end up in a run's folder
        raise ProviderError(
            say("key_env is not the name of an environment variable that is set", "key_env 不是已设置的环境变量名"),
            where=where,
            mend=say(
                "it takes the name of an environment variable, such as MY_KEY, and never the key itself",
                "应填环境变量的名称（如 MY_KEY），而不是密钥本身",
            ),
            kind="auth",
        )
    if env and needed:
        raise ProviderError(
            say(f"no key: the environment variable {env} is empty", f"没有密钥：环境变量 {env} 为空"),
            where=where,
            mend=say(f"run: export {env}=...", f"请运行：export {env}=..."),
            kind="auth",
        )
    return None


def host_of(base_url: str, example: str = "https://api.openai.com/v1") -> str:
    """The host of an endpoint's address. Raises RecipeError for one that is no http(s) address or holds a secret."""
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise RecipeError(
            say(f"'{base_url}' is not an http(s) address", f"“{base_url}”不是 http(s) 地址"),
            where="base_url",
            mend=say(f"such as {example}", f"例如 {example}"),
        )
    if parts.username or parts.password or parts.query:
        raise RecipeError(
            say("base_url holds a user, a password or a query", "base_url 中含有用户名、密码或查询参数"),
            where="base_url",
            mend=say("keep secrets in the variable that key_env names", "请把密钥放入 key_env 指明的环境变量"),
        )
    return parts.hostname


def open_session(host: str, lanes: int, timeout: float, headers: Mapping[str, str]) -> aiohttp.ClientSession:
    """A session of kept connections; to be closed. Proxies of the environment are used, though never for this machine."""
    import aiohttp

    names = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")
    proxied = any(os.environ.get(name) for name in names)
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=lanes, keepalive_timeout=60, ttl_dns_cache=300),
        headers=headers,
        timeout=aiohttp.ClientTimeout(total=timeout, sock_connect=min(30.0, timeout)),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=proxied and not is_loopback(host),
    )


async def session(
    host: str, lanes: int, timeout: float, headers: Mapping[str, str]
) -> AsyncGenerator[aiohttp.ClientSession, None]:
    """One open session: take it with `anext` and keep the generator.

    asyncio.run() closes pending generators at its end, and with this one the connections.
    """
    opened = open_session(host, lanes, timeout, headers)
    try:
        yield opened
    finally:
        await opened.close()

"""Whatever an HTTP endpoint does wrong, as one ProviderError: what happened, whether asking again may help, how to mend it."""

from __future__ import annotations

import email.utils
import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from zhiling.errors import ProviderError, say
from zhiling.text import cut

LONGEST_WAIT = 600.0  # an endpoint that asks for more (a daily quota) will not be waited for
# Not "exceeded your current quota": Gemini says that of its limit per minute, too.
_quota = ("insufficient_quota", "billing_hard_limit", "insufficient balance", "arrearage", "余额不足", "欠费")
_filter = (
    "content_filter",
    "content_policy",
    "data_inspection_failed",
    "content management policy",
    "sensitive content",
    "敏感",
)
_title = re.compile(rb"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)
_keylike = re.compile(r"\b(sk|pk|gsk|Bearer)[-_ ][A-Za-z0-9_\-*.]{6,}")


@dataclass(frozen=True, slots=True)
class Origin:
    """What an error message needs to know of where it came from. No key is in here."""

    where: str
    model: str
    key_env: str
    timeout: float

    def error(
        self, en: str, zh: str, kind: str, *, mend: str = "", retry: bool = False, after: float | None = None
    ) -> ProviderError:
        return ProviderError(say(en, zh), where=self.where, mend=mend, kind=kind, retryable=retry, retry_after=after)


def of_status(status: int, headers: Mapping[str, str], body: bytes, origin: Origin) -> ProviderError:
    """The error for an answer whose status is not 200."""
    said = hide_keys(_message(body))
    note = f" ({said})" if said else ""
    lower = said.lower()
    if status in (401, 403):
        return origin.error(
            f"the endpoint refused the key{note}",
            f"接口拒绝了密钥{note}",
            "auth",
            mend=say(
                f"put a valid key into the environment variable {origin.key_env}",
                f"请在环境变量 {origin.key_env} 中设置有效的密钥",
            )
            if origin.key_env
            else say("name the variable that holds the key with key_env", "请用 key_env 指明保存密钥的环境变量"),
        )
    if status == 402 or (status in (400, 403, 429) and any(word in lower for word in _quota)):
        return origin.error(
            f"the account's quota is used up{note}",
            f"账户额度已用完{note}",
            "quota",
            mend=say("top it up, then run again", "充值后重新运行"),
        )
    if status == 429:
        after = retry_after(headers)
        if after is not None and after > LONGEST_WAIT:
            en, zh = f"the endpoint asks to wait {after:.0f} s{note}", f"接口要求等待 {after:.0f} 秒{note}"
            return origin.error(en, zh, "quota", mend=say("run again then", "请届时重新运行"), after=after)
        return origin.error(f"too many requests{note}", f"请求过多{note}", "rate", retry=True, after=after)
    if status == 404:
        return origin.error(
            f"no model '{origin.model}' at this endpoint{note}",
            f"该接口没有模型“{origin.model}”{note}",
            "model",
            mend=say(
                "check the recipe's model and base_url (it usually ends in /v1)",
                "请检查 model 与 base_url（通常以 /v1 结尾）",
            ),
        )
    if 300 <= status < 400:
        target = cut(headers.get("Location", ""), 80)
        en, zh = f"the endpoint redirects to {target or '?'}", f"接口重定向到 {target or '?'}"
        return origin.error(
            en, zh, "protocol", mend=say("write the final address as base_url", "请把最终地址写入 base_url")
        )
    if status >= 500 or status in (408, 409, 425):
        en, zh = f"the endpoint failed with status {status}{note}", f"接口出错，状态码 {status}{note}"
        after = retry_after(headers)  # a server that says "tomorrow" is looked at again before then
        after = None if after is None else min(after, LONGEST_WAIT)
        return origin.error(en, zh, "server", retry=status != 501, after=after)
    if any(word in lower for word in _filter):
        return origin.error(
            f"the endpoint's content filter refused the request{note}", f"内容过滤拒绝了该请求{note}", "refused"
        )
    mend = ""
    if "unsupported" in lower or "unrecognized" in lower or "not supported" in lower:
        mend = say("leave a parameter out with `extra: {name: null}`", "可用 `extra: {参数名: null}` 去掉某个参数")
    return origin.error(
        f"the endpoint refused the request, status {status}{note}",
        f"接口拒绝了请求，状态码 {status}{note}",
        "refused",
        mend=mend,
    )


def of_body(body: bytes, content_type: str, origin: Origin) -> ProviderError:
    """The error for an answer with status 200 whose body is not the protocol's JSON."""
    start = body.lstrip()[:200].lower()
    if start.startswith((b"<!doctype", b"<html")) or "html" in content_type:
        title = _title.search(body[:5000])
        what = cut(title.group(1).decode("utf-8", "replace"), 60) if title else "HTML"
        en, zh = f"a web page came back instead of an answer: {what}", f"返回的是网页而不是回答：{what}"
        return origin.error(
            en, zh, "protocol", mend=say("check base_url, and the proxy on the way", "请检查 base_url 以及中间的代理")
        )
    shown = cut(hide_keys(body[:200].decode("utf-8", "replace")), 60)
    return origin.error(f"the answer is not JSON: {shown!r}", f"返回的不是 JSON：{shown!r}", "protocol", retry=True)


def of_another_protocol(answer: object, origin: Origin) -> ProviderError:
    """The error for an answer that is JSON but no completion."""
    keys = ", ".join(list(answer)[:5]) if isinstance(answer, dict) else type(answer).__name__
    shown = cut(hide_keys(keys), 80)
    return origin.error(
        f"the answer is not of OpenAI's protocol; it holds: {shown}",
        f"返回的不是 OpenAI 协议的内容，其中有：{shown}",
        "protocol",
        mend=say("check base_url (it usually ends in /v1)", "请检查 base_url（通常以 /v1 结尾）"),
    )


def of_exception(error: BaseException, origin: Origin) -> ProviderError:
    """The error for an exception of aiohttp or the system on the way to the endpoint.

    The caller raises it `from None`: some of aiohttp's exceptions carry the request's headers, and with them the key.
    """
    import asyncio

    import aiohttp

    mend = say("check the network and base_url", "请检查网络与 base_url")
    if isinstance(error, asyncio.TimeoutError):
        en, zh = f"no answer within {origin.timeout:g} s", f"{origin.timeout:g} 秒内没有回答"
        return origin.error(
            en, zh, "timeout", retry=True, mend=say("raise timeout if the model is slow", "若模型较慢，可调大 timeout")
        )
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return origin.error("no such host", "找不到该主机", "network", retry=True, mend=mend)
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return origin.error("the TLS certificate was not trusted", "TLS 证书不受信任", "network", mend=mend)
    if isinstance(error, aiohttp.ClientSSLError):
        http = say("write http:// in base_url, or another port", "请在 base_url 中改用 http:// 或其他端口")
        return origin.error("what answers there does not speak TLS", "对方不支持 TLS", "network", mend=http)
    if isinstance(error, aiohttp.ClientConnectorError):
        reason = error.os_error.strerror or type(error.os_error).__name__
        return origin.error(f"cannot connect: {reason}", f"无法连接：{reason}", "network", retry=True, mend=mend)
    if isinstance(error, aiohttp.ClientHttpProxyError):
        en, zh = f"the proxy on the way refused, status {error.status}", f"中间的代理拒绝了连接，状态码 {error.status}"
        proxy = say("check HTTPS_PROXY, and the proxy's user and password", "请检查 HTTPS_PROXY 以及代理的用户名和密码")
        return origin.error(en, zh, "network", retry=error.status >= 500, mend=proxy)
    if isinstance(error, aiohttp.ClientResponseError):
        return origin.error(
            "what answers there does not speak HTTP", "对方不是 HTTP 接口", "protocol", retry=True, mend=mend
        )
    if isinstance(error, (aiohttp.ClientError, OSError)):
        en, zh = "the connection broke off before the answer was whole", "连接在回答完成前中断"
        return origin.error(f"{en} ({type(error).__name__})", f"{zh}（{type(error).__name__}）", "network", retry=True)
    raise error


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the endpoint asks us to wait: Retry-After-Ms, Retry-After as seconds or as a date; None when it does not say."""
    for name, scale in (("Retry-After-Ms", 1e-3), ("Retry-After", 1.0)):
        value = headers.get(name)
        if value is None:
            continue
        try:
            return max(0.0, float(value) * scale)
        except ValueError:
            pass
        try:
            return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
        except (ValueError, TypeError):
            continue
    return None


def hide_keys(text: str) -> str:
    """The text with whatever looks like an API key masked; endpoints like to echo them."""
    return _keylike.sub(r"\1-***", text)


def _message(body: bytes) -> str:
    """An error body's own words, in any of the shapes that endpoints use."""
    try:
        found: Any = json.loads(body)
    except (ValueError, RecursionError):
        title = _title.search(body[:5000])
        return cut((title.group(1) if title else body[:200]).decode("utf-8", "replace"), 120)
    if isinstance(found, dict):
        found = found.get("error") or found.get("message") or found.get("detail") or found
    if isinstance(found, dict):
        parts = dict.fromkeys(str(found[key]) for key in ("message", "code", "type") if found.get(key))
        return cut("; ".join(parts) or json.dumps(found), 200)
    return cut(str(found), 200)

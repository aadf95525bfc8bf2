"""What Google's endpoints and their SDK do wrong, as one ProviderError: quotas, keys and credentials have shapes of their own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from zhiling.errors import ProviderError, say
from zhiling.llm import faults
from zhiling.llm.wire import Key
from zhiling.text import cut

_bad_key = ("api_key_invalid", "api key not valid", "api key expired", "api_key_expired")
_paid_out = ("billing", "credits are depleted", "prepayment")


def sign_in() -> str:
    """How to get credentials for Vertex AI."""
    return say(
        "run: gcloud auth application-default login, or point GOOGLE_APPLICATION_CREDENTIALS to a key file",
        "请运行：gcloud auth application-default login，或让 GOOGLE_APPLICATION_CREDENTIALS 指向密钥文件",
    )


def of_exception(error: Exception, origin: faults.Origin, key: Key | None, vertex: bool) -> ProviderError:
    """The error for whatever the SDK raised; raises again what is no fault of the endpoint, the network or the credentials."""
    from google.auth import exceptions as auth
    from google.genai import errors
    from pydantic import ValidationError

    if isinstance(error, errors.APIError):
        details = json.dumps(error.details).encode()
        details = json.loads(key.hide(details) if key is not None else details)
        headers = getattr(error.response, "headers", {})
        return of_answer(error.code or 500, details, headers, origin, vertex)
    if isinstance(error, (json.JSONDecodeError, UnicodeDecodeError)):
        raw = error.doc.encode("utf-8", "replace") if isinstance(error, json.JSONDecodeError) else error.object
        return faults.of_body(key.hide(raw) if key is not None else raw, "", origin)
    if isinstance(error, (ValidationError, errors.UnknownApiResponseError, AttributeError, TypeError)):
        # JSON of another shape than Gemini's: the SDK trips over it in as many ways.
        return origin.error("the answer is not Gemini's", "返回的不是 Gemini 的格式", "protocol", retry=True)
    if isinstance(error, auth.TransportError):
        return origin.error("no connection to Google's sign-in", "无法连接 Google 登录服务", "network", retry=True)
    if isinstance(error, auth.GoogleAuthError):
        why = cut(str(error).split("\n")[0], 120)
        return origin.error(
            f"no Google Cloud credentials: {why}", f"没有 Google Cloud 凭据：{why}", "auth", mend=sign_in()
        )
    return faults.of_exception(error, origin)


def of_answer(
    status: int, details: Any, headers: Mapping[str, str], origin: faults.Origin, vertex: bool = False
) -> ProviderError:
    """The error for an answer whose status is not 200. `details` is its body: Google's error object, or {"message": other text}."""
    found = details.get("error", details) if isinstance(details, dict) else {}
    found = found if isinstance(found, dict) else {"message": str(found)}
    said = str(found.get("message") or "")
    lower = json.dumps(found).lower()
    note = f" ({faults.hide_keys(cut(said, 200))})" if said else ""
    if status == 400 and any(word in lower for word in _bad_key):
        status = 401
    if status in (401, 403) and vertex:
        en, zh = f"Google Cloud refused the credentials{note}", f"Google Cloud 拒绝了凭据{note}"
        return origin.error(en, zh, "auth", mend=sign_in())
    if status == 400 and found.get("status") == "FAILED_PRECONDITION" and "location" in lower:
        en, zh = f"Gemini is not offered where you are{note}", f"您所在地区不提供 Gemini{note}"
        mend = say("use Vertex AI (vertex: true) in another location", "可使用其他地区的 Vertex AI（vertex: true）")
        return origin.error(en, zh, "auth", mend=mend)
    if status in (400, 403, 429) and any(word in lower for word in _paid_out) and not _quotas(found):
        en, zh = f"the account cannot pay{note}", f"账户无法付费{note}"
        return origin.error(en, zh, "quota", mend=say("set up billing, then run again", "开通付费后重新运行"))
    if status == 404:
        en, zh = f"no model '{origin.model}' at this endpoint{note}", f"该接口没有模型“{origin.model}”{note}"
        mend = say(
            "check the recipe's model, and base_url, which ends before /v1beta", "请检查 model；base_url 不含 /v1beta"
        )
        return origin.error(en, zh, "model", mend=mend)
    if status == 429 and any("PerDay" in quota for quota in _quotas(found)):
        en, zh = f"the quota of the day is used up{note}", f"当日配额已用完{note}"
        mend = say("run again tomorrow; what was answered is kept", "请明天重新运行；已有的回答都会保留")
        return origin.error(en, zh, "quota", mend=mend, after=_delay(found))
    if (delay := _delay(found)) is not None:
        headers = {"Retry-After": str(delay)}
    body = json.dumps({"error": {"message": said}}) if found.get("status") in _statuses else said  # else a proxy's page
    return faults.of_status(status, headers, body.encode(), origin)


_statuses = (
    "INVALID_ARGUMENT", "FAILED_PRECONDITION", "OUT_OF_RANGE", "UNAUTHENTICATED", "PERMISSION_DENIED", "NOT_FOUND", "ABORTED",
    "ALREADY_EXISTS", "RESOURCE_EXHAUSTED", "CANCELLED", "DATA_LOSS", "UNKNOWN", "INTERNAL", "UNIMPLEMENTED", "UNAVAILABLE",
    "DEADLINE_EXCEEDED",
)  # fmt: skip


def _details(found: Mapping[str, Any], kind: str) -> list[Mapping[str, Any]]:
    """The error's details of one type, such as "RetryInfo"."""
    listed = found.get("details")
    items = [item for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []
    return [item for item in items if str(item.get("@type", "")).endswith(f".{kind}")]


def _quotas(found: Mapping[str, Any]) -> list[str]:
    """The names of the quotas that were passed, such as "GenerateRequestsPerDayPerProjectPerModel-FreeTier"."""
    broken = [violation for item in _details(found, "QuotaFailure") for violation in item.get("violations") or ()]
    return [str(violation.get("quotaId", "")) for violation in broken if isinstance(violation, dict)]


def _delay(found: Mapping[str, Any]) -> float | None:
    """Seconds that RetryInfo asks us to wait ("34.07s"), None when it does not say."""
    for item in _details(found, "RetryInfo"):
        try:
            return max(0.0, float(str(item.get("retryDelay")).removesuffix("s")))
        except ValueError:
            continue
    return None

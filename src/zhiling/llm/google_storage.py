"""A bucket of Google Cloud Storage, as far as tuning needs one: a file goes in once, by the JSON API and its precondition."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from zhiling.errors import RecipeError, say
from zhiling.llm import faults, google_faults
from zhiling.llm.wire import host_of, open_session

STORAGE = "https://storage.googleapis.com"
SCOPE = "https://www.googleapis.com/auth/cloud-platform"
PATIENT = 900.0  # seconds for a file to go up


class Bucket:
    """The place gs://BUCKET/PREFIX. With STORAGE_EMULATOR_HOST, Google's own variable, that address is used and no credentials are sent."""

    def __init__(self, place: str, origin: faults.Origin) -> None:
        """Raises RecipeError for what is no gs:// address."""
        name, _, prefix = place.removeprefix("gs://").rstrip("/").partition("/")
        if not place.startswith("gs://") or not name:
            raise RecipeError(
                say(f"'{place}' is no bucket", f"“{place}”不是存储桶"), where="tune.bucket", mend="gs://BUCKET[/FOLDER]"
            )
        self.name, self.prefix, self.origin = name, prefix + "/" if prefix else "", origin
        emulator = os.environ.get("STORAGE_EMULATOR_HOST", "").rstrip("/")
        self._url = (emulator if "://" in emulator else f"http://{emulator}") if emulator else STORAGE
        self._signed = not emulator

    def uri(self, name: str) -> str:
        """Where a file of that name is or will be."""
        return f"gs://{self.name}/{self.prefix}{name}"

    async def has(self, name: str, size: int) -> bool:
        """Whether a whole file of that name and size is there."""
        status, _, body = await self._ask("GET", f"/storage/v1/b/{self.name}/o/{self._quoted(name)}")
        if status == 404:
            return False
        self._good(status, body)
        return str(body.get("size")) == str(size)

    async def put(self, file: Path, name: str) -> None:
        """Send the file, unless one of that name is there. Raises ProviderError where that one holds something else."""
        query = f"uploadType=media&ifGenerationMatch=0&name={self._quoted(name)}"
        with file.open("rb") as handle:
            status, _, body = await self._ask("POST", f"/upload/storage/v1/b/{self.name}/o?{query}", handle)
        if status == 412:  # it is there already
            status, _, body = await self._ask("GET", f"/storage/v1/b/{self.name}/o/{self._quoted(name)}")
        self._good(status, body)
        if body.get("md5Hash") not in (None, _md5(file)):
            en, zh = f"{self.uri(name)} holds something else", f"{self.uri(name)} 的内容与本地文件不同"
            raise self.origin.error(
                en, zh, "refused", mend=say("remove it, or name another folder", "请删除它，或换一个文件夹")
            )

    def _quoted(self, name: str) -> str:
        return quote(self.prefix + name, safe="")

    def _good(self, status: int, body: Mapping[str, Any]) -> None:
        if status == 200:
            return
        if status in (401, 403, 404):
            said = str((body.get("error") or {}).get("message") or "") if isinstance(body.get("error"), Mapping) else ""
            note = f" ({faults.hide_keys(said[:200])})" if said else ""
            en, zh = f"the bucket gs://{self.name} cannot be used{note}", f"无法使用存储桶 gs://{self.name}{note}"
            mend = say(
                "it must exist, and your account may create and read objects in it (roles/storage.objectUser)",
                "它必须存在，且您的账户可在其中创建和读取对象（roles/storage.objectUser）",
            )
            raise self.origin.error(en, zh, "auth" if status != 404 else "model", mend=mend)
        raise google_faults.of_answer(status, body, {}, self.origin, True)

    async def _ask(self, method: str, path: str, data: Any = None) -> tuple[int, Mapping[str, str], dict[str, Any]]:
        import aiohttp

        headers = {"Content-Type": "application/jsonl"} if data is not None else {}
        if self._signed:
            headers["Authorization"] = f"Bearer {await asyncio.to_thread(self._token)}"
        patience = PATIENT if data is not None else self.origin.timeout
        session = open_session(host_of(self._url, STORAGE), 1, patience, {"User-Agent": "zhiling"})
        try:
            async with session.request(
                method, self._url + path, data=data, headers=headers, allow_redirects=False
            ) as answer:
                raw = await answer.read()
                status, told = answer.status, answer.headers
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            failure = faults.of_exception(error, self.origin)
        else:
            try:
                found = json.loads(raw)
            except (ValueError, RecursionError):
                found = None
            if isinstance(found, dict):
                return status, told, found
            if status != 200:
                return status, told, {"message": raw[:200].decode("utf-8", "replace")}
            failure = faults.of_body(raw, told.get("Content-Type", ""), self.origin)
        finally:
            await session.close()
        raise failure from None  # aiohttp's own exception may hold the request's headers

    def _token(self) -> str:
        """A fresh access token of the machine's Google Cloud credentials."""
        import google.auth
        from google.auth.exceptions import GoogleAuthError
        from google.auth.transport.requests import Request

        try:
            credentials, _ = google.auth.default(scopes=[SCOPE])
            credentials.refresh(Request())
        except GoogleAuthError as error:
            failure = google_faults.of_exception(error, self.origin, None, True)
        else:
            return str(credentials.token)
        raise failure from None


def _md5(file: Path) -> str:
    """The checksum that Cloud Storage keeps: MD5, in base64."""
    with file.open("rb") as handle:
        return base64.b64encode(
            hashlib.file_digest(handle, lambda: hashlib.md5(usedforsecurity=False)).digest()
        ).decode()

"""JSON schemas, choices and regular expressions for models that cannot be held to them: asked for in words, checked when the answer comes."""

from __future__ import annotations

import json
from dataclasses import replace

from zhiling.errors import ProviderError, RecipeError, say
from zhiling.llm import parse, pattern
from zhiling.llm.base import Provider, lacks
from zhiling.llm.schema import fault
from zhiling.text import cut, lang
from zhiling.types import Reply, Request


def asked(request: Request, provider: Provider) -> Request:
    """The request as the provider can take it: what it cannot be held to is said at the end of the last message.

    Raises ProviderError(kind="capability") for a bare prompt, as a base model does not follow such words, and RecipeError for a
    regular expression that nothing can be held to, or one beside a schema or choices.
    """
    if request.regex:
        pattern.compiled(request.regex)
        if request.schema is not None or request.choices:
            en, zh = (
                "a reply is held to a regex, a schema or choices, not to several",
                "regex、schema、choices 只能用其一",
            )
            raise RecipeError(say(en, zh), where="regex")
    schema = request.schema is not None and "schema" not in provider.can
    choices = bool(request.choices) and "choices" not in provider.can
    regex = bool(request.regex) and "regex" not in provider.can
    if not schema and not choices and not regex:
        return request
    if request.prompt is not None:
        raise lacks(provider, "schema" if schema else "choices" if choices else "regex")
    role, content = request.messages[-1]
    chinese = lang(content) == "zh"
    added = []
    if schema:
        shape = json.dumps(request.schema, ensure_ascii=False, sort_keys=True)
        added.append(
            f"只输出一个符合以下 JSON Schema 的 JSON，不要输出其他内容：\n{shape}"
            if chinese
            else f"Answer with one JSON value that satisfies this JSON schema, and nothing else:\n{shape}"
        )
    if choices:
        listed = "\n".join(f"- {choice}" for choice in request.choices)
        added.append(
            f"只输出下列选项之一，不要输出其他内容：\n{listed}"
            if chinese
            else f"Answer with exactly one of these, and nothing else:\n{listed}"
        )
    if regex:
        added.append(
            f"只输出一段完全匹配以下正则表达式的文本，不要输出其他内容：\n{request.regex}"
            if chinese
            else f"Answer with a text that matches this regular expression as a whole, and nothing else:\n{request.regex}"
        )
    messages = (*request.messages[:-1], (role, "\n\n".join([content, *added])))
    return replace(
        request,
        messages=messages,
        schema=None if schema else request.schema,
        choices=() if choices else request.choices,
        regex="" if regex else request.regex,
    )


def held(request: Request, reply: Reply) -> Reply:
    """The reply when it is what the request asked for; `repaired` when its text had to be changed to be so.

    Raises ProviderError(kind="protocol") when it is not: a bad reply is data, and asking again is the caller's decision (`draw`).
    """
    if request.schema is not None:
        try:
            value = parse.json_value(reply.text).value
        except ValueError as error:
            raise _bad(reply, str(error)) from None
        if broken := fault(value, request.schema):
            raise _bad(reply, broken)
        try:
            if json.loads(reply.text) == value:
                return reply
        except (ValueError, RecursionError):
            pass
        return replace(reply, text=json.dumps(value, ensure_ascii=False), repaired=True)
    if request.choices:
        chosen = parse.choice(reply.text, request.choices)
        if chosen is None:
            raise _bad(reply, say("it names none of the choices, or several", "没有给出选项，或给出了多个"))
        return reply if reply.text == chosen else replace(reply, text=chosen, repaired=reply.text.strip() != chosen)
    if request.regex:
        found = parse.matching(reply.text, pattern.compiled(request.regex))
        if found is None:
            en = f"it does not match /{request.regex}/, or matches it in several places"
            raise _bad(reply, say(en, f"不匹配 /{request.regex}/，或有多处匹配"))
        return reply if reply.text == found else replace(reply, text=found, repaired=True)
    return reply


def _bad(reply: Reply, why: str) -> ProviderError:
    shown = cut(reply.text, 60)
    note = (
        say(" (it was cut off: raise max_tokens)", "（回复被截断：请调大 max_tokens）")
        if reply.finish == "length"
        else ""
    )
    return ProviderError(
        say(f"the reply is not what was asked: {why}{note}: {shown!r}", f"回复不符合要求：{why}{note}：{shown!r}"),
        where=reply.model,
        kind="protocol",
    )

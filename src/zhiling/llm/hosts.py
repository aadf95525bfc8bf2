"""What is peculiar to known sellers of OpenAI's protocol, as their documentation has it; everyone else is taken at the protocol's word."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from zhiling.llm.base import Capability


@dataclass(frozen=True, slots=True)
class Host:
    """One seller.

    `key` is the variable that holds its key, so that one seller's key is never sent to another by a forgotten setting. `lacks` are
    capabilities that its endpoint does not have (JSON is then asked for in words and checked). `limit` is its name for the limit on
    a chat reply's tokens. `fixed` maps the beginning of a model's name to parameters that such models do not accept. `greedy` is
    sent in place of a temperature of 0.
    """

    key: str
    lacks: frozenset[Capability] = frozenset()
    limit: str = "max_tokens"
    fixed: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))
    greedy: Mapping[str, Any] | None = None

    def refused_by(self, model: str) -> frozenset[str]:
        """Parameters that a request to this model must not name."""
        return frozenset(name for start, names in self.fixed.items() if model.startswith(start) for name in names)


UNKNOWN = Host("OPENAI_API_KEY")

_sampling = ("temperature", "top_p", "logprobs", "top_logprobs")
_deepseek = Host(
    "DEEPSEEK_API_KEY", frozenset({"schema", "seed", "complete"}), fixed={"deepseek-reasoner": _sampling}
)  # api-docs.deepseek.com: response_format is text or json_object; completions are in its beta only
_dashscope = Host(
    "DASHSCOPE_API_KEY", frozenset({"schema", "complete"})
)  # help.aliyun.com: json_schema with a few models only; `without: []` brings it back
_zhipu = Host(
    "ZHIPUAI_API_KEY", frozenset({"schema", "seed", "logprobs", "complete"}), greedy={"do_sample": False}
)  # docs.bigmodel.cn: greedy decoding is do_sample false; response_format is text or json_object
_moonshot = Host(
    "MOONSHOT_API_KEY",
    frozenset({"schema", "seed", "logprobs", "complete"}),
    limit="max_completion_tokens",
    fixed={"kimi-": ("temperature", "top_p")},
)  # platform.moonshot.ai: the sampling of kimi models is fixed, that of moonshot-v1 is not

HOSTS: Mapping[str, Host] = {
    "api.openai.com": Host(
        "OPENAI_API_KEY",
        limit="max_completion_tokens",
        fixed={start: (*_sampling, "stop") for start in ("o1", "o3", "o4", "gpt-5")},
    ),
    "api.deepseek.com": _deepseek,
    "dashscope.aliyuncs.com": _dashscope,
    "dashscope-intl.aliyuncs.com": _dashscope,
    "dashscope-us.aliyuncs.com": _dashscope,
    "open.bigmodel.cn": _zhipu,
    "api.z.ai": _zhipu,
    "api.moonshot.cn": _moonshot,
    "api.moonshot.ai": _moonshot,
    "openrouter.ai": Host("OPENROUTER_API_KEY"),
}

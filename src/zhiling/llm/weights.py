"""A model of the transformers library on disk: checked before it is loaded, told apart by its content, loaded without its own code."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from zhiling.errors import ProviderError, missing, say
from zhiling.llm import embedded, plain
from zhiling.llm.gguf_file import fingerprint as file_fingerprint
from zhiling.llm.machine import quiet_cores
from zhiling.text import cut
from zhiling.types import Request, content_id

Device = Literal["auto", "cpu", "cuda", "mps"]
Dtype = Literal["auto", "float32", "bfloat16", "float16"]
_encoders = (
    "ForMaskedLM",
    "ForSequenceClassification",
    "ForTokenClassification",
    "ForQuestionAnswering",
    "BertModel",
    "BertaModel",
)
_tokenizers = ("tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model", "vocab.txt")


def wrong(where: object, en: str, zh: str, mend_en: str = "", mend_zh: str = "") -> ProviderError:
    """A model that cannot be used."""
    return ProviderError(say(en, zh), where=str(where), mend=say(mend_en, mend_zh) if mend_en else "", kind="model")


def check_model(folder: Path) -> None:
    """Raise ProviderError(kind="model") unless the folder holds a configuration, a tokenizer and safetensors, and no code."""
    if not folder.is_dir():
        raise wrong(folder, "there is no such model folder", "没有这个模型文件夹", "check the path", "请检查路径")
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        if (folder / "adapter_config.json").exists():
            raise wrong(
                folder,
                "this is an adapter, not a model",
                "这是适配器，不是模型",
                "give it as adapter",
                "请写在 adapter 里",
            ) from None
        raise wrong(
            folder, "this is not a model folder: it has no config.json", "这不是模型文件夹：缺少 config.json"
        ) from None
    except (OSError, ValueError) as error:
        raise wrong(folder, f"config.json cannot be read: {error}", f"无法读取 config.json：{error}") from error
    if not isinstance(config, dict) or "model_type" not in config:
        raise wrong(folder, "config.json names no model_type", "config.json 中没有 model_type")
    if config.get("auto_map"):
        raise refused_code(folder)
    if not any((folder / name).exists() for name in _tokenizers):
        raise wrong(
            folder,
            "the model folder has no tokenizer",
            "模型文件夹中没有分词器",
            "copy tokenizer.json and tokenizer_config.json from the model it was made from",
            "请从原模型复制 tokenizer.json 和 tokenizer_config.json",
        )
    if not any(folder.glob("*.safetensors")):
        raise wrong(
            folder,
            "the model folder has no safetensors file (pickled weights can run code and are not loaded)",
            "模型文件夹中没有 safetensors 文件（pickle 权重可能执行代码，不予加载）",
            "save it again with save_pretrained",
            "请用 save_pretrained 重新保存",
        )


def check_generates(folder: Path) -> None:
    """Raise ProviderError(kind="model") for an encoder, whose missing head would be made of random numbers."""
    named = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("architectures") or ()
    if encoder := next((str(name) for name in named if str(name).endswith(_encoders)), ""):
        raise wrong(
            folder,
            f"this is an encoder ({encoder}), which writes no text",
            f"这是编码器（{encoder}），不能生成文本",
            "name a causal language model",
            "请使用因果语言模型",
        )


def check_device(device: Device) -> None:
    """Raise ProviderError(kind="model") when this machine, or the torch installed on it, has no such device."""
    import torch

    if not (torch.cuda.is_available() if device == "cuda" else torch.backends.mps.is_available()):
        en, zh = (
            f"there is no device '{device}' here, or this torch is built without it",
            f"本机没有设备“{device}”，或所装 torch 不支持它",
        )
        raise wrong(
            "device", en, zh, "leave device out, or install torch for it", "请去掉 device，或安装支持它的 torch"
        )


def check_adapter(folder: Path, model: Path) -> None:
    """Raise ProviderError(kind="model") unless the folder holds a PEFT adapter in safetensors, of the model's kind where that can be told.

    An adapter of which no module is named in the model's files was made for another architecture.
    """
    if not (folder / "adapter_config.json").exists():
        raise wrong(
            folder,
            "this is not an adapter folder: it has no adapter_config.json",
            "这不是适配器文件夹：缺少 adapter_config.json",
        )
    if not (folder / "adapter_model.safetensors").exists():
        raise wrong(folder, "the adapter has no adapter_model.safetensors", "适配器缺少 adapter_model.safetensors")
    changed = {
        part
        for name in _names(folder / "adapter_model.safetensors")
        for part in name.split(".lora_")[0].split(".")[-1:]
    }
    there = {part for file in model.glob("*.safetensors") for name in _names(file) for part in name.split(".")}
    if changed and there and not changed & there:
        listed = ", ".join(sorted(changed)[:3])
        raise wrong(
            folder,
            f"the adapter was made for another architecture: it changes {listed}, which the model does not have",
            f"该适配器属于另一种结构：它修改的 {listed} 在模型中不存在",
            "name the adapter's own base model",
            "请使用该适配器对应的基础模型",
        )


def _names(file: Path) -> list[str]:
    """The names of the tensors in a safetensors file, from its header alone; none where it cannot be read (loading says why)."""
    try:
        with file.open("rb") as raw:
            size = int.from_bytes(raw.read(8), "little")
            found = json.loads(raw.read(min(size, 1 << 27)))
    except (OSError, ValueError):
        return []
    return [name for name in found if name != "__metadata__"] if isinstance(found, dict) else []


def refused_code(where: object) -> ProviderError:
    """The error for a model that wants to run code of its own."""
    return wrong(
        where,
        "this model wants to run its own code (trust_remote_code), which could do anything with this machine",
        "该模型要求运行自带代码（trust_remote_code），这些代码可对本机做任何事",
        "use a model whose architecture transformers knows",
        "请使用 transformers 自带架构的模型",
    )


def fingerprint(folder: Path) -> str:
    """Twelve hex digits that change with the weights, the adapter, the configuration or the tokenizer of a folder."""
    files = sorted(
        file
        for file in folder.iterdir()
        if file.is_file() and file.suffix in (".safetensors", ".json", ".model", ".jinja")
    )
    return content_id([(file.name, file_fingerprint(file)) for file in files])[:12]


class Weights:
    """A loaded model with its tokenizer: from requests to token ids and back."""

    def __init__(
        self, source: str, adapter: str | None, threads: int | None, device: Device, dtype: Dtype, revision: str | None
    ) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        torch.set_num_threads(threads or quiet_cores())
        where = _device(device)
        kind = _dtype(dtype, where)
        options: dict[str, Any] = {"trust_remote_code": False} | ({"revision": revision} if revision else {})
        with embedded.silent():
            self.tokenizer = AutoTokenizer.from_pretrained(source, **options)
            model, report = AutoModelForCausalLM.from_pretrained(
                source, dtype=kind, use_safetensors=True, output_loading_info=True, **options
            )
            if absent := sorted(report["missing_keys"]):
                raise wrong(
                    source,
                    f"the weights of {len(absent)} tensors are missing ({absent[0]}); random numbers would stand in for them",
                    f"缺少 {len(absent)} 个张量的权重（{absent[0]}），否则会以随机数代替",
                )
            if adapter is not None:
                model = _with_adapter(model, Path(adapter).expanduser())
        self.model = model.to(where).eval()
        self.plain = not self.tokenizer.chat_template
        self.pad = next(i for i in (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id, 0) if i is not None)
        self.ends = _ends(model, self.tokenizer)
        self.start = _start(self.tokenizer)
        text_config = model.config.get_text_config()
        self.context = int(getattr(text_config, "max_position_embeddings", 0) or 1 << 30)

    def ids(self, request: Request, room: int = 1) -> list[int]:
        """The prompt's token ids: messages through the chat template, a bare prompt as it stands, `start` for an empty one.

        Raises ProviderError(kind="refused") when the template refuses the messages or the context cannot hold them and `room` more.
        """
        if request.prompt is None:
            ids = self._encode(self._rendered(request), special=False)
        else:
            ids = self._encode(request.prompt, special=True)
        if not ids:
            ids = [self.start]
        if len(ids) + room > self.context:
            raise ProviderError(
                say(
                    f"the prompt has {len(ids)} tokens, the context {self.context}",
                    f"提示词有 {len(ids)} 个 token，上下文只有 {self.context}",
                ),
                mend=say("shorten the prompt", "请缩短提示词"),
                kind="refused",
            )
        return ids

    def continuation_ids(self, text: str) -> list[int]:
        """A continuation's token ids, without special tokens."""
        return self._encode(text, special=False)

    def text(self, ids: Sequence[int]) -> str:
        """The text of generated ids, special tokens left out."""
        decoded: str = self.tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return decoded

    def stop(self, request: Request) -> tuple[str, ...]:
        """The request's stop strings, and the end of turn where a base model is made to chat."""
        return (*request.stop, plain.STOP) if self.plain and request.prompt is None else request.stop

    def _encode(self, text: str, special: bool) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=special)["input_ids"])

    def _rendered(self, request: Request) -> str:
        import jinja2

        messages = [{"role": role, "content": content} for role, content in request.messages]
        try:
            rendered: str = self.tokenizer.apply_chat_template(
                messages,
                tokenize=False,
                add_generation_prompt=True,
                chat_template=plain.TEMPLATE if self.plain else None,
            )
        except jinja2.TemplateError as error:
            said = cut(str(error), 160)
            en, zh = f"the chat template refused the messages: {said}", f"聊天模板拒绝了这些消息：{said}"
            raise ProviderError(say(en, zh), kind="refused") from error
        return rendered


def _with_adapter(model: Any, folder: Path) -> Any:
    try:
        from peft import PeftModel
    except ModuleNotFoundError as error:
        raise missing("peft") from error
    return PeftModel.from_pretrained(model, str(folder)).merge_and_unload()


def _device(asked: Device) -> str:
    import torch

    if asked != "auto":
        return asked
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _dtype(asked: Dtype, device: str) -> Any:
    import torch

    if asked != "auto":
        return getattr(torch, asked)
    if device == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return torch.float32


def _ends(model: Any, tokenizer: Any) -> frozenset[int]:
    """The ids that end a reply: the model's generation_config, else the tokenizer's EOS."""
    named = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    if named is None:
        named = tokenizer.eos_token_id
    return frozenset([] if named is None else [named] if isinstance(named, int) else named)


def _start(tokenizer: Any) -> int:
    """The token after which a document begins: <|endoftext|> where the vocabulary has it, else BOS, else EOS.

    Chat models often call their turn marker BOS. After that a text is far less likely than at the start of a document, which is
    where models of the GPT-2, Qwen and SmolLM families learnt to expect <|endoftext|>. (A tokenizer that puts its own BOS before
    every text, as Llama's does, never gets here.)
    """
    named = tokenizer.get_vocab().get("<|endoftext|>")
    found = next((i for i in (named, tokenizer.bos_token_id, tokenizer.eos_token_id) if i is not None), 0)
    return int(found)

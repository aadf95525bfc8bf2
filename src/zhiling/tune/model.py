"""Base models in and tuned models out: finding, loading, fingerprinting, adapting and saving."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from zhiling.errors import RecipeError, say
from zhiling.llm import embedded, weights
from zhiling.text import cut
from zhiling.tune.checkpoint import whole
from zhiling.tune.ranks import ALONE, Ranks
from zhiling.tune.settings import TuneSettings
from zhiling.tune.shard import shard, sharded, wholes

# The projections of attention and MLP blocks under the names that the common architectures give them.
PROJECTIONS = {"q_proj", "k_proj", "v_proj", "o_proj"} | {
    "gate_proj",
    "up_proj",
    "down_proj",
}  # Llama, Qwen, Gemma, Mistral
PROJECTIONS |= {"qkv_proj", "gate_up_proj", "out_proj", "fc1", "fc2", "dense"}  # Phi, OPT
PROJECTIONS |= {"query_key_value", "dense_h_to_4h", "dense_4h_to_h"}  # GPT-NeoX, BLOOM
PROJECTIONS |= {"c_attn", "c_proj", "c_fc"}  # GPT-2


def locate(base: str | Path) -> str:
    """The folder or hub name to load; "embedded" is the model that zhiling brings along. Raises ProviderError for a folder that is no model."""
    if str(base) == "embedded":
        return str(embedded.folder())
    path = Path(base).expanduser()
    if path.exists() or isinstance(base, Path) or str(base).startswith((".", "/", "~")):
        weights.check_model(path)
        return str(path)
    return str(base)


def fingerprint(name: str) -> str:
    """What tells one base model from another: a folder's content, else the hub name."""
    return weights.fingerprint(Path(name)) if Path(name).is_dir() else name


def device() -> str:
    """The first GPU, else the CPU."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def precision(settings: TuneSettings) -> str:
    """ "fp32" or "bf16", "auto" decided by the device."""
    return {"auto": "bf16" if device() == "cuda" else "fp32"}.get(settings.precision, settings.precision)


def compute(settings: TuneSettings) -> AbstractContextManager[Any]:
    """Within it the layers compute in the settings' precision."""
    import torch

    return torch.autocast(device(), torch.bfloat16, enabled=precision(settings) == "bf16")


def context(name: str) -> int:
    """How many tokens the model can hold. Raises RecipeError when there is no such model."""
    from transformers import AutoConfig

    with _loading(name):
        config = AutoConfig.from_pretrained(name, trust_remote_code=False).get_text_config()
    return int(getattr(config, "max_position_embeddings", None) or 1 << 30)


def load_tokenizer(name: str) -> Any:
    """The base's tokenizer. Raises RecipeError when there is none."""
    from transformers import AutoTokenizer

    with _loading(name):
        return AutoTokenizer.from_pretrained(name, trust_remote_code=False)


def load(name: str, settings: TuneSettings, ranks: Ranks = ALONE) -> Any:
    """The model to train: the base with all its weights in fp32, or the base frozen and fresh LoRA layers drawn from the seed.

    With `shard` it is split over the ranks, with `quantize` the projections of a frozen base are held in 4 bits.
    """
    import torch
    from transformers import AutoModelForCausalLM

    split = settings.shard and ranks.size > 1
    frozen = settings.method == "lora" and precision(settings) == "bf16" and not split  # a block is split in one dtype
    dtype = torch.bfloat16 if frozen else torch.float32
    with _loading(name):
        model = AutoModelForCausalLM.from_pretrained(
            name, dtype=dtype, use_safetensors=True, trust_remote_code=False, **quantized(settings)
        )
    if settings.quantize is None:  # 4-bit weights are made where they stay
        model.to(device())
    torch.manual_seed(settings.seed)
    model = _adapt(model, settings) if settings.method == "lora" else model
    if settings.recompute:
        _recompute(model)
    return shard(model) if split else model


def quantized(settings: TuneSettings) -> dict[str, Any]:
    """What `from_pretrained` is told beside, for the settings' `quantize`; nothing without it."""
    if settings.quantize is None:
        return {}
    import torch
    from transformers import BitsAndBytesConfig

    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16 if precision(settings) == "bf16" else torch.float32,
    )
    return {"quantization_config": config, "device_map": {"": torch.cuda.current_device()}}


def _recompute(model: Any) -> None:
    """Gradient checkpointing by transformers. Its blocks do it in training mode only; dropout, which asks its own layer, stays off."""
    from transformers.modeling_layers import GradientCheckpointingLayer

    blocks = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    if not blocks:
        raise RecipeError(
            say("this model cannot recompute its blocks", "该模型不支持重算中间结果"), where="tune.recompute",
            mend=say("leave recompute out, or lower batch_tokens", "请去掉 recompute，或调小 batch_tokens"),
        )  # fmt: skip
    model.gradient_checkpointing_enable({"use_reentrant": False})
    for block in blocks:
        block.train = partial(_always, block)
        block.training = True


def _always(block: Any, mode: bool = True) -> Any:
    """`train` of a block whose own mode stays training, whatever its layers are told."""
    for child in block.children():
        child.train(mode)
    return block


def _adapt(model: Any, settings: TuneSettings) -> Any:
    from peft import LoraConfig, TaskType, get_peft_model

    present = {path.rsplit(".", 1)[-1] for path, module in model.named_modules() if _is_linear(module)}
    targets = sorted(settings.targets or present & PROJECTIONS)
    if not targets or not present.issuperset(targets):
        lost = ", ".join(sorted(set(targets) - present))
        raise RecipeError(
            say(f"LoRA finds no layers to adapt {lost}".strip(), f"LoRA 找不到可适配的层 {lost}".strip()),
            where="tune.targets",
            mend=say("name some of: ", "可选的有：") + ", ".join(sorted(present)),
        )
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=targets,
        task_type=TaskType.CAUSAL_LM,
        fan_in_fan_out=any(type(module).__name__ == "Conv1D" for module in model.modules()),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers for an attribute under its old name
        return get_peft_model(model, config)


def _is_linear(module: Any) -> bool:
    return type(module).__name__ in ("Linear", "Conv1D", "Linear4bit")


def trainable(model: Any) -> dict[str, Any]:
    """The parameters that are tuned, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def save(model: Any, tokenizer: Any, place: Path, base: str, ranks: Ranks = ALONE) -> None:
    """The adapter or the full model, with its tokenizer, at `place`: all of it or nothing. Raises EngineError when the disk is full.

    All ranks must call it; the first one writes.
    """
    more: dict[str, Any] = {"state_dict": wholes(model.state_dict())} if sharded(model) else {}
    if not ranks.first:
        return
    with whole(place) as partial:
        if hasattr(model, "peft_config"):
            for config in model.peft_config.values():
                config.base_model_name_or_path = base
            model.save_pretrained(partial, save_embedding_layers=False, **more)
            (partial / "README.md").unlink(missing_ok=True)  # peft's empty form of a model card
        else:
            model.save_pretrained(partial, **more)
        tokenizer.save_pretrained(partial)


@contextmanager
def _loading(name: str) -> Iterator[None]:
    """No progress bars of others, and one line where the base cannot be loaded."""
    with embedded.silent():
        try:
            yield
        except (OSError, ValueError, KeyError) as error:
            said = cut(str(error), 200)
            raise RecipeError(
                say(f"the base model cannot be loaded: {said}", f"无法加载基座模型：{said}"),
                where=name,
                mend=say("give a folder, a hub name or 'embedded'", "请给出模型文件夹、hub 名称或 'embedded'"),
            ) from error

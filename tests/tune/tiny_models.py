"""Tiny models and a tokenizer built here, so that nothing is fetched and a test takes a second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
CORPUS = [
    "assistant\n正面", "assistant\n负面", "assistant\npositive", "assistant\nnegative", "Assistant: 正面", "Assistant: positive", "Assistant: negative",
    "判断这条评论是正面还是负面。", "Is the review positive or negative?", "这家店的面很好吃，下次还来。", "The soup was cold and the waiter rude.",
    "谁写了这本书？", "Who wrote the book?", "user\n", "system\n", "User: ", "鲁迅", "Jane Austen",
]  # fmt: skip


def tokenizer(chat: bool) -> Any:
    """Byte-level BPE that ignores word borders, so that prompt and answer do merge when they are tokenised as one text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    raw.decoder = decoders.ByteLevel()
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"] if chat else ["<|endoftext|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator(CORPUS * 4, trainer)
    end = "<|im_end|>" if chat else "<|endoftext|>"
    made = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token=end, bos_token=None if chat else end)
    if chat:
        made.chat_template = CHATML
    return made


def tiny(folder: Path, kind: str, seed: int = 0, context: int = 256) -> Path:
    """A random model of two layers with its tokenizer: "llama" with a chat template or "gpt2" without one."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

    words = tokenizer(kind == "llama")
    torch.manual_seed(seed)
    ends = {"eos_token_id": words.eos_token_id, "bos_token_id": None, "pad_token_id": None}
    if kind == "llama":
        config = LlamaConfig(
            vocab_size=len(words), hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=context, tie_word_embeddings=True, **ends,
        )  # fmt: skip
        model = LlamaForCausalLM(config)
    else:
        model = GPT2LMHeadModel(
            GPT2Config(vocab_size=len(words), n_embd=32, n_layer=2, n_head=4, n_positions=context, **ends)
        )
    with torch.no_grad():  # the default start is so small that all tokens are nearly alike: make the losses differ
        for parameter in model.parameters():
            parameter.mul_(4.0) if parameter.ndim > 1 else None
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return folder

"""The novelty filter of generation: how many pairs it decides per CPU second, and whether as the definition of ROUGE-L does.

    python benchmarks/novelty.py [--quick] [--data DIR] [--json FILE] [--no-rivals]

1,000 new instructions against a pool of 50,000 (Self-Instruct's seeds and Alpaca's 52k), and Chinese ones against a pool of 5,000 to 6,000
(BELLE's seeds and questions, Chinese Alpaca, topics). The clock counts the CPU seconds of the decisions over all threads; filling the
pool is counted by itself. Agreement is measured on other new instructions, half of which are pool rows with seeded edits, so that many
lie near the threshold of 0.7, against rouge_score in an environment of its own: with its own tokens in English, with ours in Chinese,
where it has none. It is given its tokens ready made, as Self-Instruct's code gives them; it is slow, so the sample is small.

Figures: mpairs_per_cpu_s, mpairs_per_cpu_s_zh; rouge_score_mpairs_per_cpu_s, times_rouge_score; rapidfuzz_mpairs_per_cpu_s (its cdist on every
pair, without our bounds); agreement and agreement_zh (share of equal decisions), equal_f (share of new instructions whose
greatest F is equal to the last bit where it is not below the threshold); zh_good_kept (of ten good ones), zh_duplicates_found (share of
reworded copies of seeds found), rouge_score_zh_duplicates_found (by its own tokens).
"""

from __future__ import annotations

import argparse
import gzip
import json
import platform
import random
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
THRESHOLD = 0.7
ENGLISH = ("01_self_instruct/seed_tasks.jsonl", "02_alpaca/alpaca_52k_original.jsonl.gz")
CHINESE = (
    "04_belle/zh_seed_tasks.jsonl",
    "04_belle/eval_set.jsonl.gz",
    "02_alpaca/alpaca_zh_community_translated.jsonl.gz",
    "02_alpaca/zh_extra_topics.jsonl.gz",
)
GOOD = [
    "写一首关于秋天的七言绝句。", "把下面的句子翻译成英文。", "列出五种可以在家里做的运动。", "解释一下什么是通货膨胀。",
    "根据给出的食材推荐一道菜。", "判断这条评论是正面还是负面。", "帮我给客户写一封道歉邮件。", "计算一个圆的面积，半径为三厘米。",
    "为一家新开的咖啡馆起三个名字。", "总结这篇新闻的主要内容。",
]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared/data")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="a pool of 10,000 and a smaller sample for agreement")
    parser.add_argument("--no-rivals", action="store_true")
    parser.add_argument("--rival", type=Path, help=argparse.SUPPRESS)  # how this script calls itself
    args = parser.parse_args()
    if args.rival:
        print(json.dumps(rouge_score(json.loads(args.rival.read_text(encoding="utf-8")))))
        return
    english, chinese = (instructions(args.data, names) for names in (ENGLISH, CHINESE))
    size = 10_000 if args.quick else 50_000
    rows = [speed("en", english, size, 1000), speed("zh", chinese, len(chinese) - 1000, 1000)]
    rows.append(plain_rapidfuzz(english, size, 20))
    figures: dict[str, Any] = {
        "mpairs_per_cpu_s": rows[0]["mpairs_per_cpu_s"],
        "mpairs_per_cpu_s_zh": rows[1]["mpairs_per_cpu_s"],
        "rapidfuzz_mpairs_per_cpu_s": rows[2]["mpairs_per_cpu_s"],
        "zh_good_kept": good_kept(),
    }
    copies = reworded(instructions(args.data, CHINESE[:1]))
    figures["zh_duplicates_found"] = found(copies)
    if not args.no_rivals:
        news, pool = (100, 400) if args.quick else (300, 1000)
        rows += compared(english, chinese, copies, news, pool, figures)
    for row in rows:
        print(", ".join(f"{key} {value}" for key, value in row.items()))
    print(json.dumps(figures, ensure_ascii=False, indent=1))
    if args.json:
        machine = f"{platform.machine()}, Python {platform.python_version()}"
        said = {"name": "novelty", "machine": machine, "figures": figures, "rows": rows}
        args.json.write_text(json.dumps(said, ensure_ascii=False, indent=1), encoding="utf-8")


def instructions(data: Path, names: tuple[str, ...]) -> list[str]:
    """The different instructions of the files, in their order."""
    texts: dict[str, None] = {}
    for name in names:
        raw = (data / name).read_bytes()
        for line in (gzip.decompress(raw) if name.endswith("gz") else raw).splitlines():
            row = json.loads(line)
            texts[str(row.get("instruction") or row.get("question"))] = None
    return list(texts)


def cpu(work: Callable[[], T]) -> tuple[T, float]:
    """What the work gives, and the CPU seconds it took over all threads."""
    start = time.process_time()
    result = work()
    return result, time.process_time() - start


def speed(lang: str, texts: list[str], size: int, news: int) -> dict[str, Any]:
    """Our decisions on `news` texts against a pool of `size`, all drawn by a seed."""
    from zhiling.construct.generate.novelty import Pool

    shuffled = random.Random(7).sample(texts, len(texts))
    pool, filling = cpu(lambda: Pool(shuffled[:size], THRESHOLD))
    fresh = shuffled[size : size + news]
    pool.rival(fresh[0])  # imports are not the filter's time
    rivals, seconds = cpu(lambda: [pool.rival(text) for text in fresh])
    return {
        "who": f"zhiling_{lang}", "pool": len(pool), "new": len(fresh), "refused": sum(one is not None for one in rivals),
        "cpu_s": round(seconds, 3), "filling_cpu_s": round(filling, 3), "mpairs_per_cpu_s": rate(len(pool) * len(fresh), seconds),
    }  # fmt: skip


def rate(pairs: int, seconds: float) -> float:
    """Million pairs per CPU second."""
    return float(f"{pairs / seconds / 1e6:.4g}")


def plain_rapidfuzz(texts: list[str], size: int, news: int) -> dict[str, Any]:
    """Every pair through rapidfuzz's cdist on one thread, which is what the bounds save."""
    from rapidfuzz.distance import LCSseq
    from rapidfuzz.process import cdist

    from zhiling.construct.generate.novelty import tokens

    shuffled = random.Random(7).sample(texts, len(texts))
    known: dict[str, int] = {}
    coded = [
        "".join(chr(known.setdefault(token, len(known))) for token in tokens(text)) for text in shuffled[: size + news]
    ]
    _, seconds = cpu(lambda: cdist(coded[size:], coded[:size], scorer=LCSseq.similarity))
    pairs = size * news
    return {
        "who": "rapidfuzz",
        "pool": size,
        "new": news,
        "cpu_s": round(seconds, 3),
        "mpairs_per_cpu_s": rate(pairs, seconds),
    }


def good_kept() -> int:
    """How many of ten good Chinese instructions the filter keeps."""
    from zhiling.construct.generate.novelty import Pool

    pool, kept = Pool((), THRESHOLD), 0
    for text in GOOD:
        kept += pool.rival(text) is None
        pool.add(text)
    return kept


def reworded(texts: list[str]) -> tuple[list[str], list[str]]:
    """(texts, copies with 请 before them and another end mark), of at least six characters."""
    from zhiling.construct.generate.novelty import tokens

    long = [text for text in texts if len(tokens(text)) >= 6]
    return long, ["请" + text.rstrip("。？！：") + "！" for text in long]


def found(copies: tuple[list[str], list[str]]) -> float:
    """Share of the copies that our filter finds."""
    from zhiling.construct.generate.novelty import Pool

    pool = Pool(copies[0], THRESHOLD)
    return round(sum(pool.rival(text) is not None for text in copies[1]) / len(copies[1]), 4)


def edited(texts: list[str], words: list[str], rng: random.Random, spaced: bool) -> list[str]:
    """Copies in which up to half of the words are replaced, left out or swapped."""
    out = []
    for text in texts:
        parts = text.split(" ") if spaced else list(text)
        for _ in range(rng.randrange(0, max(2, len(parts) // 2))):
            at = rng.randrange(len(parts))
            parts[at : at + 1] = rng.choice([[rng.choice(words)], [], [parts[at], rng.choice(words)]]) or (
                [] if len(parts) > 1 else parts[at : at + 1]
            )
        rng.random() < 0.2 and parts.reverse()
        out.append((" " if spaced else "").join(parts))
    return out


def sample(texts: list[str], news: int, size: int, spaced: bool) -> tuple[list[str], list[str]]:
    """(new texts, pool): half of the new ones are edited rows of the pool."""
    rng = random.Random(11)
    drawn = rng.sample(texts, size + news // 2)
    pool, fresh = drawn[:size], drawn[size:]
    words = [word for text in pool[:200] for word in (text.split(" ") if spaced else text)]
    return fresh + edited(rng.sample(pool, news - len(fresh)), words, rng, spaced), pool


def compared(
    english: list[str],
    chinese: list[str],
    copies: tuple[list[str], list[str]],
    news: int,
    size: int,
    figures: dict[str, Any],
) -> list[dict[str, Any]]:
    """Our decisions beside rouge_score's, in English by its own tokens, in Chinese by ours."""
    from zhiling.construct.generate.novelty import Pool, tokens

    latin = [text for text in english if not any(char.isalpha() and ord(char) > 0x24F for char in text)]
    en, zh = sample(latin, news, size, True), sample(chinese, news, size, False)
    asked = {
        "en": en,
        "zh": tuple([tokens(text) for text in part] for part in zh),
        "zh_own": copies,
    }
    said = rival(asked)
    if "error" in said:
        print(f"rouge_score left out: {said['error']}")
        return []
    rows = []
    for lang, (fresh, known) in (("en", en), ("zh", zh)):
        pool = Pool(known, THRESHOLD)
        ours = [pool.rival(text) for text in fresh]
        theirs = said[lang]["f"]
        equal = [(one is None) == (f < THRESHOLD) for one, f in zip(ours, theirs, strict=True)]
        same = [one is None or one.f == f for one, f in zip(ours, theirs, strict=True)]
        suffix = "" if lang == "en" else "_zh"
        figures[f"agreement{suffix}"] = round(sum(equal) / len(equal), 6)
        figures[f"equal_f{suffix}"] = round(sum(same) / len(same), 6)
        rows.append({
            "who": f"rouge_score_{lang}", "pool": size, "new": len(fresh), "refused": sum(f >= THRESHOLD for f in theirs),
            "cpu_s": said[lang]["cpu_s"], "mpairs_per_cpu_s": rate(size * len(fresh), said[lang]["cpu_s"]),
        })  # fmt: skip
    figures["rouge_score_mpairs_per_cpu_s"] = rows[0]["mpairs_per_cpu_s"]
    figures["times_rouge_score"] = round(figures["mpairs_per_cpu_s"] / rows[0]["mpairs_per_cpu_s"])
    hits = [f >= THRESHOLD for f in said["zh_own"]["f"]]
    figures["rouge_score_zh_duplicates_found"] = round(sum(hits) / len(hits), 4)
    return rows


def rival(asked: dict[str, Any]) -> dict[str, Any]:
    """This script in an environment with rouge_score; {"error": why} where that cannot be had."""
    home = Path(tempfile.gettempdir()) / "zhiling-bench-rouge"
    python = home / "bin/python"
    try:
        if not (home / "ready").exists():
            venv.create(home, with_pip=True, clear=True)
            subprocess.run(
                [python, "-m", "pip", "install", "-q", "rouge-score==0.1.2"], check=True, capture_output=True
            )
            (home / "ready").touch()
        with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
            json.dump(asked, file, ensure_ascii=False)
            file.flush()
            done = subprocess.run([python, __file__, "--rival", file.name], check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        return {"error": str(getattr(error, "stderr", "") or error)[-300:]}
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def rouge_score(asked: dict[str, Any]) -> dict[str, Any]:
    """In the rival's environment: the greatest F of each new text with the pool; tokens are made before the clock starts."""
    from rouge_score import rouge_scorer

    scorer = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=False)
    out = {}
    for name, (fresh, pool) in asked.items():
        ready = [
            [one if isinstance(one, list) else scorer._tokenizer.tokenize(one) for one in part]
            for part in (fresh, pool)
        ]

        def greatest(new: list[str], pool: list[list[str]] = ready[1]) -> float:
            return max(rouge_scorer._score_lcs(other, new).fmeasure for other in pool)

        scores, seconds = cpu(lambda ready=ready, greatest=greatest: [greatest(new) for new in ready[0]])
        out[name] = {"f": scores, "cpu_s": round(seconds, 3)}
    return out


if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).resolve().parents[1] / "src")]
    main()

"""Section 5.3 of the source document: a causal language model proposes instructions for a prompt.

The document's snippet prints whatever the model writes first. Here the candidates are evaluated before one is returned: those that
are no instruction at all are refused with a reason, the others are scored for grammar, clarity and task relevance.

    python examples/source_5_3_generation.py [MODEL]        a folder or hub name; default: the embedded small English model
"""

from __future__ import annotations

import asyncio
import sys

from zhiling import Request, Task, open_model
from zhiling.construct.generate.instructions import Candidate, judge, tidy, unfit
from zhiling.embed import Use
from zhiling.steps import Scorers
from zhiling.types import row_seed

PROMPTS = {
    "zh": "生成一个将句子翻译成法语的指令：",
    "en": "An instruction that asks to translate a sentence into French:",
}
TASK = Task(
    "french",
    "将句子翻译成法语。\nTranslate the sentence into French.",
    "translation",
    ("sentence",),
    "translation",
    langs=("zh", "en"),
)


async def propose(model_name: str, lang: str, count: int = 6) -> list[Candidate]:
    """Candidates for the prompt of one language, best first; prints what became of each."""
    async with open_model({"provider": "transformers", "model": model_name}, cache=None) as model:
        asked = [
            Request(
                prompt=PROMPTS[lang],
                max_tokens=32,
                temperature=0.8,
                top_p=0.95,
                seed=row_seed(7, f"{lang}{draw}"),
                draw=draw,
            )
            for draw in range(count)
        ]
        pool: list[Candidate] = []
        for reply in await model.ask_all(asked):
            found = Candidate(tidy(reply.text), lang, "source", reply.key) if not isinstance(reply, Exception) else None
            why = str(reply) if found is None else unfit(found, TASK, pool)
            print(f"  {'refused: ' + why if why else 'scored'}: {found.text if found else ''}")
            if found and not why:
                pool.append(found)
        hand = {"tasks": {TASK.name: TASK}, "embedder": Use(), "model": model, "seed": 7}
        return await judge(pool, TASK, Scorers({}, lambda step: hand))


def main(model_name: str = "embedded") -> Candidate | None:
    """The best candidate of each language's prompt, or an honest "none"."""
    best = None
    for lang, prompt in PROMPTS.items():
        print(prompt)
        judged = asyncio.run(propose(model_name, lang))
        for candidate in judged:
            print(f"  quality {candidate.quality}  ({candidate.why})  {candidate.text}")
        if judged and judged[0].quality is not None and (best is None or judged[0].quality > (best.quality or 0)):
            best = judged[0]
    print("returned:", best.text if best else "none: no candidate was fit to be an instruction")
    return best


if __name__ == "__main__":
    main(*sys.argv[1:2])

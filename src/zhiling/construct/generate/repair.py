"""A row is checked, verified, and where it fails sent back once with the reason. What comes of that is marked `+repair`, good or bad.

The idea of feeding the fault back is Self-Refine's (Madaan et al. 2023, arXiv:2303.17651) and Reflexion's, here with a checker's words
in place of the model's own opinion, and once: a second repair seldom pays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from zhiling.construct.generate.asking import Asking, Book, Said, book
from zhiling.construct.generate.checks import Leak, Scorers, Verify, answers, refused
from zhiling.construct.generate.floor import Made
from zhiling.errors import say, speaking
from zhiling.text import normalise
from zhiling.types import Example, Reject

MARK = "+repair"


def finishing(
    asking: Asking, scorers: Scorers, verify: Verify, repair: bool, own: Callable[[Example], str] | None = None
) -> Finish:
    """How a constructor's rows are finished, with or without a repair."""
    back = book("repair") if repair else None
    fixed = [*asking.book.texts(asking.lang), *(back.texts(asking.lang) if back else ())]
    return Finish(asking, scorers, verify, Leak(fixed, asking.lang), back, own)


@dataclass(frozen=True, slots=True)
class Finish:
    """How rows are finished: what checks them, and whether one that fails is sent back once (with the prompts of `repair`).

    `own` is the constructor's own check of a row's output: the reason against it, "" where there is none.
    """

    asking: Asking
    scorers: Scorers
    verify: Verify
    leak: Leak
    repair: Book | None
    own: Callable[[Example], str] | None = None

    async def rows(self, drafts: Sequence[Example | Reject], names: Sequence[str]) -> list[Made]:
        """Each draft as a row or a Reject, in order; `names` tell the rows apart and make their seeds. Rejects pass through."""
        out: list[Made] = list(drafts)
        places = [at for at, row in enumerate(drafts) if isinstance(row, Example)]
        faults = await self.faults([row for row in drafts if isinstance(row, Example)])
        bad = {at: why for at, why in zip(places, faults, strict=True) if why}
        if bad and self.repair is not None:
            rows = [(names[at], out[at], why) for at, why in bad.items()]
            again = await self._sent_back([(name, row, why) for name, row, why in rows if isinstance(row, Example)])
            for at, (new, why) in zip(bad, again, strict=True):
                out[at], bad[at] = new, why
        for at, why in bad.items():
            row = out[at]
            if why and isinstance(row, Example):
                out[at] = dropped(row, why)
        return out

    async def answered(
        self, asked: Sequence[tuple[str, str, tuple[str, ...]]], maker: str, *, cool: bool = False
    ) -> list[Made]:
        """The model's answers to (name, instruction, parents), as finished rows; `cool` ones at temperature 0."""
        asking, task = self.asking, self.asking.task.name
        replies = await asking.send(
            [asking.plain((("user", text),), f"answer:{name}", cool) for name, text, _ in asked]
        )
        drafts: list[Example | Reject] = []
        for (name, text, parents), one in zip(asked, replies, strict=True):
            row = Example(task, text, "", one.text, lang=asking.lang, maker=maker, parents=(*parents, one.key))
            if one.fault:
                drafts.append(failed(task, maker, one, f"answer {name}: {text}", parents))
            else:
                drafts.append(row)
        return await self.rows(drafts, [name for name, _, _ in asked])

    async def checked(self, rows: Sequence[Example]) -> list[str]:
        """What is wrong with each row by our checks and the constructor's own; "" where nothing is."""
        found = await answers(rows, self.leak, self.scorers)
        if self.own is None:
            return found
        return [why or self.own(row) for row, why in zip(rows, found, strict=True)]

    async def faults(self, rows: Sequence[Example]) -> list[str]:
        """What is wrong with each row by our checks, then by the task's verifiers; "" where nothing is."""
        found = await self.checked(rows)
        fine = [at for at, why in enumerate(found) if not why]
        with speaking(self.asking.lang):  # the model may be told of it: see `_slots`
            scores = await self.verify([rows[at] for at in fine]) if fine else []
        for at, score in zip(fine, scores, strict=True):
            if score.value == 0.0:
                found[at] = refused(score)
        return found

    async def _sent_back(self, rows: Sequence[tuple[str, Example, str]]) -> list[tuple[Example, str]]:
        """The rows with new answers, marked, and what is wrong with those."""
        assert self.repair is not None
        asking = replace(self.asking, book=self.repair)
        words: Mapping[str, str] = self.repair.words("reasons", asking.lang)
        asked = [(name, _slots(row, why, words)) for name, row, why in rows]
        said = [
            _not_the_reason(one, slots["reason"])
            for one, (_, slots) in zip(await asking.ask("repair", asked), asked, strict=True)
        ]
        new = [_repaired(row, one) for (_, row, _), one in zip(rows, said, strict=True)]
        answered = [row for row, one in zip(new, said, strict=True) if not one.fault]
        faults = iter(await self.faults(answered))
        return [(row, one.fault or next(faults)) for row, one in zip(new, said, strict=True)]


def _slots(row: Example, why: str, words: Mapping[str, str]) -> dict[str, str]:
    """What the model is told: all that the answer stood on, and for our own checks the reason in the prompt's language, not the user's."""
    before = "\n\n".join(message["content"] for message in row.messages(answer=False))
    return {"prompt": before, "output": row.output, "reason": words.get(why.partition(":")[0], why)}


def _not_the_reason(said: Said, reason: str) -> Said:
    """The reply, faulty where it gives back what was said to be wrong."""
    words = normalise(said.text)
    if said.fault or not words or (words not in normalise(reason) and normalise(reason) not in words):
        return said
    return said._replace(fault=f"leak: {say('it repeats the reason', '重复了所指出的问题')}")


def _repaired(row: Example, said: Said) -> Example:
    parents = (*row.parents, said.key) if said.key else row.parents
    return replace(row, output=said.text or row.output, maker=row.maker + MARK, parents=parents)


def dropped(row: Example, why: str) -> Reject:
    """A row that a check refused."""
    return Reject(row.task, row.maker, "dropped", why, text=f"{row.prompt}\n→ {row.output}", parents=row.parents)


def failed(task: str, maker: str, said: Said, about: str, parents: tuple[str, ...] = ()) -> Reject:
    """A candidate for which the model gave no usable reply; `about` tells it apart from the others."""
    given = (*parents, said.key) if said.key else parents
    state = "failed" if said.fault.startswith(("call", "cut", "filter")) else "dropped"
    return Reject(task, maker, state, said.fault, text=said.text or about, parents=given)  # type: ignore[arg-type]

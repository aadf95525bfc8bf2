"""The bank's keyword index: BM25 (tantivy) over words, pairs of neighbouring words, and single CJK characters at lower weight.

Real segmentation misses two-character words, so a run of Han characters is indexed as overlapping pairs; single characters make
one-character queries work and lend overlap where pairs differ. Words are stemmed as English, which leaves other scripts alone.
A pair of neighbours ("answer question", stop words left out) says more about the task than its words do.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from zhiling.text import CJK, bigrams, tokens

FILTERS = ("family", "lang", "licence", "source")
CHAR_WEIGHT = 0.5
_cjk = re.compile(f"[{CJK}]")
_HEAP = 64_000_000


@dataclass(frozen=True, slots=True)
class Keywords:
    """What a keyword search found: {row number: score}, each score a share of what a row that says it all would have, in [0, 1]."""

    scores: Mapping[int, float]
    terms: Mapping[str, str]
    """The query's index terms and the words they stand for."""


def write_index(folder: Path, rows: Iterable[tuple[int, Mapping[str, Any]]], gone: Iterable[int] = ()) -> None:
    """Add (row number, row) pairs to the index in `folder`, made when it does not exist, and take the rows numbered `gone` out of it.

    Committed when this returns.
    """
    import tantivy

    folder.mkdir(parents=True, exist_ok=True)
    index = tantivy.Index(_schema(), str(folder), reuse=True)
    _register(index)
    writer = index.writer(_HEAP, 1)
    for number in gone:
        writer.delete_documents_by_query(tantivy.Query.term_query(_schema(), "number", number))
    for number, row in rows:
        document = tantivy.Document()
        document.add_unsigned("number", number)
        for field, said in _indexed(row["instruction"]).items():
            document.add_text(field, said)
        for name in FILTERS:
            document.add_text(name, row[name])
        if row["quality"] is not None:
            document.add_float("quality", row["quality"])
        writer.add_document(document)
    writer.commit()
    writer.wait_merging_threads()


def open_index(folder: Path) -> Any:
    """The index in `folder`, for searching."""
    import tantivy

    index = tantivy.Index.open(str(folder))
    _register(index)
    index.reload()
    return index


def search_index(
    index: Any, query: str, limit: int, where: Mapping[str, str], quality: float | None = None
) -> Keywords:
    """The rows that share words with the query, best first, at most `limit`, among those where each named field has that value.

    With `quality`, among the rows judged at least that good.
    """
    from tantivy import FieldType, Occur, Query

    terms = analyse(query)
    alone = singles(query)
    schema, searcher = index.schema, index.searcher()
    asked = [(1.0, "words", term) for term in terms if term not in alone]
    asked += [(1.0, "pairs", pair) for pair in pairs(query)]
    asked += [(CHAR_WEIGHT, "chars", token) for token in alone]
    total = searcher.num_docs
    if not asked or not total:
        return Keywords({}, terms)
    should = [(Occur.Should, _weighed(Query.term_query(schema, field, term, "freq"), w)) for w, field, term in asked]
    wanted: Any = Query.boolean_query(should)
    needed = [Query.term_query(schema, name, value, "basic") for name, value in where.items()]
    if quality is not None:
        needed.append(Query.range_query(schema, "quality", FieldType.Float, float(quality), 1.0))
    if needed:
        kept = [(Occur.Must, Query.const_score_query(one, 0.0)) for one in needed]
        wanted = Query.boolean_query([(Occur.Must, wanted), *kept])
    best = sum(weight * idf(searcher.doc_freq(field, term), total) for weight, field, term in asked)
    hits = searcher.search(wanted, limit, count=False).hits
    numbers = searcher.fast_field_values("number", [address for _, address in hits])
    return Keywords({int(n): min(1.0, score / best) for n, (score, _) in zip(numbers, hits, strict=True)}, terms)


def _weighed(query: Any, weight: float) -> Any:
    """The query with its weight. A weight of one is not written: only bare terms let the index skip rows that cannot win."""
    from tantivy import Query

    return query if weight == 1 else Query.boost_query(query, weight)


def analyse(text: str, query: bool = True) -> dict[str, str]:
    """The index terms of a text and the words they stand for; a query's stop words are left out where anything else is left."""
    words = bigrams(text)
    kept = [word for word in words if word not in _STOP] if query else words
    stemmer = _analyser()
    return {stem: word for word in dict.fromkeys(kept or words) for stem in stemmer.analyze(word)}


def terms_of(text: str) -> frozenset[str]:
    """What a text says, for comparing it with another: stemmed words without stop words, and pairs of neighbours."""
    return frozenset([*analyse(text), *pairs(text)])


def rarities(index: Any, terms: Iterable[str]) -> dict[str, float]:
    """The inverse document frequency of index terms: how much each says about the rows it stands in."""
    searcher = index.searcher()
    return {term: idf(searcher.doc_freq("words", term), searcher.num_docs) for term in terms}


def pairs(text: str) -> list[str]:
    """Neighbouring words of a text, stemmed, stop words left out; none where a script is written without spaces."""
    stemmer = _analyser()
    stems = [stem for word in tokens(text) if word not in _STOP for stem in stemmer.analyze(word)]
    return [f"{a}_{b}" for a, b in dict.fromkeys(pairwise(stems)) if not (_cjk.match(a) or _cjk.match(b))]


def singles(text: str) -> list[str]:
    """The single CJK characters of a text, each once."""
    return [token for token in dict.fromkeys(tokens(text)) if _cjk.fullmatch(token)]


def _indexed(text: str) -> dict[str, str]:
    """What each text field of the index holds, terms separated by spaces."""
    chars = " ".join(token for token in tokens(text) if _cjk.fullmatch(token))
    return {"words": " ".join(bigrams(text)), "pairs": " ".join(pairs(text)), "chars": chars}


def idf(documents: int, total: int) -> float:
    """The inverse document frequency of a term that stands in so many of all documents."""
    return math.log(1 + (total - documents + 0.5) / (documents + 0.5))


@cache
def _analyser() -> Any:
    import tantivy

    builder = tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.whitespace())
    return builder.filter(tantivy.Filter.stemmer("english")).build()


def _register(index: Any) -> None:
    import tantivy

    index.register_tokenizer("stemmed", _analyser())
    index.register_tokenizer("spaced", tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.whitespace()).build())


@cache
def _schema() -> Any:
    import tantivy

    builder = tantivy.SchemaBuilder()
    builder.add_unsigned_field("number", fast=True, indexed=True)
    builder.add_float_field("quality", fast=True, indexed=True)
    builder.add_text_field("words", tokenizer_name="stemmed", index_option="freq")
    builder.add_text_field("pairs", tokenizer_name="spaced", index_option="freq")
    builder.add_text_field("chars", tokenizer_name="spaced", index_option="freq")
    for name in FILTERS:
        builder.add_text_field(name, tokenizer_name="raw", index_option="basic")
    return builder.build()


# fmt: off
_STOP = frozenset([
    "a", "about", "after", "again", "all", "also", "am", "an", "and", "any", "are", "as", "at", "be", "because", "been", "before",
    "being", "below", "between", "both", "but", "by", "can", "could", "did", "do", "does", "during", "each", "few", "following",
    "for", "from", "further", "given", "has", "have", "he", "her", "here", "his", "how", "i", "if", "in", "into", "is", "it",
    "its", "just", "may", "me", "more", "most", "must", "my", "need", "no", "nor", "not", "now", "of", "off", "on", "once", "one",
    "only", "or", "other", "our", "out", "own", "per", "please", "same", "she", "should", "so", "some", "such", "than", "that",
    "the", "their", "them", "then", "there", "these", "they", "this", "those", "three", "to", "too", "two", "under", "until",
    "up", "use", "used", "using", "very", "was", "we", "were", "what", "when", "where", "whether", "which", "while", "who", "why",
    "will", "with", "within", "would", "you", "your",
])
# fmt: on

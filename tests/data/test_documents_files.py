"""PDF, DOCX and HTML: read by structure; what is scanned, locked, broken or a bomb is told in a row's stead and harms nothing."""

import io
import zipfile
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zhiling.data import rows

CHROMIUM = Path("/usr/bin/chromium")
W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'


def read(path):
    found = list(rows(path, "passages"))
    return [(at, row) for at, row in found if not isinstance(row, str)], [
        (at, row) for at, row in found if isinstance(row, str)
    ]


def pdf(pages, bookmarks=(), image_pages=()):
    """A PDF with these pages of Latin text lines; a page of `image_pages` (from 1) holds a picture alone."""
    from pypdf import PdfWriter
    from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject, NumberObject

    writer = PdfWriter()
    font = DictionaryObject({NameObject("/Type"): NameObject("/Font"), NameObject("/Subtype"): NameObject("/Type1"), NameObject("/BaseFont"): NameObject("/Helvetica")})  # fmt: skip
    for number, lines in enumerate(pages, 1):
        page = writer.add_blank_page(width=600, height=800)
        resources = DictionaryObject({NameObject("/Font"): DictionaryObject({NameObject("/F1"): font})})
        stream = DecodedStreamObject()
        said = "".join(f"1 0 0 1 50 {760 - 14 * at} Tm ({line}) Tj\n" for at, line in enumerate(lines) if line)
        stream.set_data(f"BT /F1 10 Tf\n{said}ET".encode("latin-1"))
        if number in image_pages:
            image = DecodedStreamObject()
            image.set_data(b"\xff")
            image.update({NameObject("/Type"): NameObject("/XObject"), NameObject("/Subtype"): NameObject("/Image"), NameObject("/Width"): NumberObject(1), NameObject("/Height"): NumberObject(1)})  # fmt: skip
            resources[NameObject("/XObject")] = DictionaryObject({NameObject("/Im"): writer._add_object(image)})
            stream.set_data(b"/Im Do")
        page[NameObject("/Resources")] = resources
        page[NameObject("/Contents")] = writer._add_object(stream)
    for title, page in bookmarks:
        writer.add_outline_item(title, page - 1)
    return writer


def saved(tmp_path, writer, name="a.pdf"):
    path = tmp_path / name
    writer.write(path)
    return path


LONG = "The museum opens at nine in the morning and closes at six in the evening on every"


def test_a_pdf_by_page_with_bookmarks_hyphens_and_running_titles(tmp_path):
    pages = [
        ["Museum Guide 7", LONG, "single day of the year, with excep-", "tions in winter.", "1"],
        ["Museum Guide 7", "Tickets", LONG, "weekday. Children pay half.", "2"],
        ["Museum Guide 7", LONG, "holiday too.", "3"],
    ]
    good, bad = read(saved(tmp_path, pdf(pages, [("Opening Hours", 1), ("Tickets", 2)])))
    assert not bad
    assert [(at, row["page"], row["heading"]) for at, row in good] == [(1, "1", "Opening Hours"), (2, "2–3", "Tickets")]
    assert good[0][1]["passage"] == f"{LONG} single day of the year, with exceptions in winter."
    assert "Museum Guide" not in str(good) and "\n3" not in good[1][1]["passage"]


def test_scanned_pages_are_told_with_what_mends_them(tmp_path):
    _, ((_, why),) = read(saved(tmp_path, pdf([[], []], image_pages=(1, 2))))
    assert "scanned PDF: 2 pages" in why and "ocrmypdf" in why
    good, bad = read(saved(tmp_path, pdf([["Text here."], []], image_pages=(2,))))
    assert (
        [row["passage"] for _, row in good] == ["Text here."] and bad[0][0] == 2 and "page 2 is a picture" in bad[0][1]
    )
    good, ((_, why),) = read(saved(tmp_path, pdf([[]])))
    assert not good and "holds no text" in why


@pytest.mark.parametrize("algorithm", ["RC4-128", "AES-256"])
def test_an_encrypted_pdf_is_told_and_one_without_a_password_is_read(tmp_path, algorithm):
    for password, seen in (("secret", 0), ("", 1)):
        writer = pdf([["Inside."]])
        writer.encrypt(password, "owner", algorithm=algorithm)
        good, bad = read(saved(tmp_path, writer))
        assert len(good) == seen and (seen or "encrypted: save a copy without a password" in bad[0][1])


@given(st.integers(0, 2**32 - 1), st.integers(1, 40))
@settings(max_examples=60)
def test_no_damage_to_a_pdf_escapes(tmp_path_factory, seed, holes):
    import random

    buffer = io.BytesIO()
    pdf([["One line.", "Another line."], ["More."]], [("Mark", 2)]).write(buffer)
    data, chance = bytearray(buffer.getvalue()), random.Random(seed)
    for _ in range(holes):
        data[chance.randrange(8, len(data))] = chance.randrange(256)
    path = tmp_path_factory.mktemp("p") / "a.pdf"
    path.write_bytes(bytes(data[: chance.randrange(len(data) // 2, len(data))] if seed % 2 else data))
    good, bad = read(path)
    assert good or bad


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [("a.pdf", b"%PDF-1.7\nrubbish", "the PDF is damaged"), ("a.pdf", b"", "an empty file"), ("a.pdf", b"<!DOCTYPE html><p>404", "named .pdf, but it is a web page"),
     ("a.docx", b"PK\x03\x04 cut", "damaged"), ("a.docx", b"hello", "nothing of the kind"), ("a.doc", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "old or encrypted Office file"),
     ("a.md", b"PK\x03\x04", "ZIP archive")],
)  # fmt: skip
def test_broken_and_misnamed_files_say_what_they_are(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    good, ((_, why),) = read(tmp_path / name)
    assert not good and said in why


def test_a_document_under_a_wrong_name_is_read_for_what_it_is(tmp_path):
    (tmp_path / "a.txt").write_text("<!DOCTYPE html><h1>T</h1><p>Body.</p>")
    assert read(tmp_path / "a.txt")[0][0][1]["heading"] == "T"
    assert read(saved(tmp_path, pdf([["Inside."]]), "b.txt"))[0][0][1]["passage"] == "Inside."


def docx(tmp_path, body, name="a.docx", styles="", method=zipfile.ZIP_DEFLATED):
    path = tmp_path / name
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr(
            "word/document.xml",
            f"<?xml version='1.0' encoding='UTF-8'?><w:document {W}><w:body>{body}</w:body></w:document>",
        )
        if styles:
            archive.writestr("word/styles.xml", f"<w:styles {W}>{styles}</w:styles>")
    return path


def p(text, style="", more=""):
    styled = f"<w:pStyle w:val='{style}'/>" if style else ""
    props = f"<w:pPr>{styled}{more}</w:pPr>"
    return f"<w:p>{props}<w:r><w:t xml:space='preserve'>{text}</w:t></w:r></w:p>"


def test_a_word_document_by_style_with_lists_and_tables(tmp_path):
    styles = "<w:style w:styleId='1'><w:name w:val='heading 1'/></w:style><w:style w:styleId='a2'><w:name w:val='mine'/><w:basedOn w:val='1'/></w:style>"
    cell = lambda text: f"<w:tc>{p(text)}</w:tc>"  # noqa: E731
    body = (
        p("员工手册", "1") + p("年假五天。") + p("第一条", more="<w:numPr/>") + p("第二条", more="<w:numPr/>")
        + f"<w:tbl><w:tr>{cell('年限')}{cell('天数')}</w:tr><w:tr>{cell('1|2')}{cell('5')}</w:tr></w:tbl>"
        + p("如何请假？", "a2") + p("提前三天申请。") + p("Outline", more="<w:outlineLvl w:val='1'/>") + p("Deep.")
        + "<w:p><w:del><w:r><w:delText>gone</w:delText></w:r></w:del><w:ins><w:r><w:t>kept</w:t></w:r></w:ins></w:p>"
    )  # fmt: skip
    good, bad = read(docx(tmp_path, body, styles=styles))
    assert not bad
    assert [(row["heading"], row["question"]) for _, row in good] == [
        ("员工手册", ""),
        ("如何请假？", "如何请假？"),
        ("如何请假？ > Outline", ""),
    ]
    assert good[0][1]["passage"] == "年假五天。\n\n- 第一条\n- 第二条\n\n| 年限 | 天数 |\n| --- | --- |\n| 1\\|2 | 5 |"
    assert good[1][1]["answer"] == "提前三天申请。" and good[2][1]["passage"] == "Deep.\n\nkept"


def test_zip_bombs_and_entity_bombs_are_not_opened(tmp_path):
    _, ((_, why),) = read(docx(tmp_path, " " * 60_000_000))
    assert "not opened" in why and "57 MB" in why
    path = tmp_path / "b.docx"
    laugh = '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">' + "".join('<!ENTITY {} "{}">'.format(chr(c + 1), f"&{chr(c)};" * 10) for c in range(ord("b"), ord("k"))) + "]>"  # fmt: skip
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(
            "word/document.xml", f"{laugh}<w:document {W}><w:body>{p('&k;')}{p('fine')}</w:body></w:document>"
        )
    good, bad = read(path)
    assert len(str(good)) + len(str(bad)) < 2000


def test_an_entity_reads_no_file(tmp_path):
    (tmp_path / "secret").write_text("TOPSECRET")
    path = tmp_path / "c.docx"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("word/document.xml", f'<!DOCTYPE x [<!ENTITY s SYSTEM "file://{tmp_path}/secret">]><w:document {W}><w:body>{p("a &s; b")}</w:body></w:document>')  # fmt: skip
    assert "TOPSECRET" not in str(read(path))


def test_a_docx_that_lies_about_its_size_is_damaged_not_unpacked(tmp_path):
    path = docx(tmp_path, p("x") * 30000)
    raw = path.read_bytes()
    at = raw.index(b"PK\x01\x02", raw.index(b"word/document.xml"))
    at = raw.rindex(b"PK\x01\x02", 0, raw.rindex(b"word/document.xml"))
    lied = bytearray(raw)
    lied[at + 24 : at + 28] = (100).to_bytes(4, "little")
    path.write_bytes(bytes(lied))
    good, bad = read(path)
    assert bad and "damaged" in bad[0][1] and len(good) < 3


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=60)
def test_no_damage_to_a_docx_escapes(tmp_path_factory, seed):
    import random

    path = docx(tmp_path_factory.mktemp("d"), p("Hello there.") * 50)
    data, chance = bytearray(path.read_bytes()), random.Random(seed)
    for _ in range(8):
        data[chance.randrange(4, len(data))] = chance.randrange(256)
    path.write_bytes(bytes(data))
    good, bad = read(path)
    assert good or bad


PAGE = """<!DOCTYPE html><html><head><meta charset="{charset}"><title>skip</title><style>p{{}}</style></head><body>
<nav><a href="/">Home</a></nav><h1>帮助 <a href="#x">¶</a></h1><p>先看  这里。<br>再看那里。</p>
<ul><li>one</li><li>two <b>bold</b></li></ul><pre>x = 1
  y = 2</pre><table><tr><th>a</th><th>b</th></tr><tr><td>1</td><td>2</td></tr></table>
<h2>How do I pay?</h2><div>By card.</div><script>alert('no')</script>
<details><summary>Can I cancel?</summary><p>Yes.</p><p>Within a day.</p></details>
<dl><dt>Shard</dt><dd>A part of the rows.</dd></dl></body></html>"""


@pytest.mark.parametrize("charset", ["utf-8", "gb2312"])
def test_a_web_page_by_structure(tmp_path, charset):
    (tmp_path / "a.html").write_bytes(
        PAGE.format(charset=charset).encode("utf-8" if charset == "utf-8" else "gb18030", "replace")
    )
    good, bad = read(tmp_path / "a.html")
    assert not bad
    assert [(row["heading"], row["question"]) for _, row in good] == [
        ("帮助", ""),
        ("帮助 > How do I pay?", "Can I cancel?"),
        ("帮助 > How do I pay?", "How do I pay?"),
    ]
    assert (
        good[0][1]["passage"]
        == "先看 这里。\n再看那里。\n\n- one\n- two bold\n\nx = 1\n  y = 2\n\n| a | b |\n| --- | --- |\n| 1 | 2 |"
    )
    assert good[1][1]["answer"] == "Yes.\n\nWithin a day."
    assert good[2][1]["passage"] == "By card.\n\nShard\nA part of the rows."
    assert not any(word in str(good) for word in ("alert", "Home", "skip"))


@given(st.text(st.sampled_from("<>/abhlpt1 '=\"&;!-"), max_size=300))
@settings(max_examples=100)
def test_any_markup_is_read(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("h") / "a.html"
    path.write_text(f"<p>start{text}", encoding="utf-8")
    good, bad = read(path)
    assert good or bad


def test_a_page_as_a_browser_prints_it(tmp_path):
    """A PDF that chromium made, in Chinese: its words come back."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not CHROMIUM.exists():
        pytest.skip(f"no browser at {CHROMIUM}")
    text = "退货须在收到商品后七天之内办理，运费由买家承担。" * 8
    with playwright.sync_playwright() as tool:
        browser = tool.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        page = browser.new_page()
        page.set_content(f"<h1>退货说明</h1><p>{text}</p><p>Refunds take 5 days.</p>")
        page.pdf(path=str(tmp_path / "a.pdf"))
        browser.close()
    good, bad = read(tmp_path / "a.pdf")
    whole = "\n".join(row["passage"] for _, row in good)
    assert not bad and text in whole and "Refunds take 5 days." in whole


def test_a_bomb_in_a_pdf_stream_is_bounded(tmp_path):
    """A page whose stream unpacks to far more than pypdf's limit costs that page alone."""
    from pypdf.generic import NameObject, StreamObject

    writer = pdf([["Fine."], ["x"]])
    stream = StreamObject()
    stream._data = zlib.compress(b" " * 200_000_000, 9)
    stream[NameObject("/Filter")] = NameObject("/FlateDecode")
    writer.pages[1][NameObject("/Contents")] = writer._add_object(stream)
    good, bad = read(saved(tmp_path, writer))
    assert [row["passage"] for _, row in good] == ["Fine."]
    assert len(bad) == 1 and "page 2 cannot be read" in bad[0][1]

"""The linter of prose counts words and sentences, and fails if one is over its limit."""

import pytest

from tools import prose


@pytest.mark.parametrize(("text", "counts"), [
    ("One two three. Four five.", [3, 2]),
    ("Code does not count: `a b c d`.", [4, 1]),
    ("- one item\n- another item of a list", [2, 5]),
    ("One.\n```sh\nnot prose at all\n```\nProse.", [1, 1]),
])  # fmt: skip
def test_sentences_end_at_marks_items_and_code(text, counts):
    assert [count for count, _ in prose.sentences(text)] == counts


def test_comments_and_docstrings_are_prose_and_code_is_not(tmp_path):
    module = tmp_path / "module.py"
    module.write_text('"""Holds where."""\n\nwhat = 1  # if one\n# and two\n')
    assert [text.text for text in prose.texts(module)] == ["Holds where.", "if one\nand two"]


@pytest.mark.parametrize(("text", "says"), [
    ("What is it?", "'what' above 1"), ("Where is it?", "'where' above 2"), ("All of it.", "'if' below 4"),
    ("word " * 26, "1 sentences of more than 25 words"),
])  # fmt: skip
def test_prose_over_a_limit_fails(text, says, tmp_path, monkeypatch, capsys):
    (tmp_path / "page.md").write_text(text)
    monkeypatch.setattr(prose, "files", lambda arguments: [tmp_path / "page.md"])
    assert prose.main([]) == 1
    assert says in capsys.readouterr().out


def test_plain_prose_passes(tmp_path, monkeypatch, capsys):
    (tmp_path / "page.md").write_text("If it rains, take an umbrella.")
    monkeypatch.setattr(prose, "files", lambda arguments: [tmp_path / "page.md"])
    assert prose.main([]) == 0

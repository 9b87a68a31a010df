"""LaTeX tables, read back without LaTeX."""

import re

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtmsa_lightning.reports.latex import escape, table, write_tables


def read(text: str) -> list[list[str]]:
    """The cells of the only tabular of a text, still escaped."""
    (body,) = re.findall(r"\\toprule\n(.*)\\bottomrule", text, re.DOTALL)
    lines = [line for line in body.splitlines() if line != r"\midrule"]
    assert all(line.endswith(r" \\") for line in lines)
    return [re.split(r"(?<!\\) & ", line.removesuffix(r" \\")) for line in lines]


def test_a_table_has_rules_and_aligned_numbers():
    text = table(
        ["metric", "value [95 %]", "p"], [["age MAE", "5.10 [4.9, 5.3]", "< 0.001"], ["acc", "-", "-"]]
    )
    assert r"\begin{tabular}{lrr}" in text
    assert [text.count(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")] == [1, 1, 1]
    assert read(text) == [
        ["metric", r"value {[}95 \%{]}", "p"],
        ["age MAE", "5.10 {[}4.9, 5.3{]}", r"\textless{} 0.001"],
        ["acc", "--", "--"],
    ]
    assert "table}" not in text


def test_a_caption_makes_a_float_with_a_label():
    text = table(["a"], [["1"]], "Faces & errors", "tab:a")
    assert text.startswith("% \\usepackage{booktabs}\n\\begin{table}[htbp]\n\\centering\n")
    assert r"\caption{Faces \& errors}" in text
    assert r"\label{tab:a}" in text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("50 %_a", r"50 \%\_a"),
        ("±1", r"$\pm$1"),
        ("a\nb", "a b"),
        ("-1.50 (-1,203.0, +2 to 20-29)", "$-1.50$ ($-1{,}203.0$, $+2$ to 20--29)"),
        ("- (2 of 7)", "-- (2 of 7)"),
        ("ResNet-34, 1e-08, 2026-01-05, --seed -1", "ResNet-34, 1e-08, 2026-01-05, --seed $-1$"),
        ("\\x^~", r"\textbackslash{}x\textasciicircum{}\textasciitilde{}"),
    ],
)
def test_texts_are_escaped(text, expected):
    assert escape(text) == expected


@given(st.text(alphabet="ab 1.,-+&%$#_{}~^\\<>|[]±≤\n"))
@settings(max_examples=50)
def test_no_text_can_end_a_cell_or_begin_a_command(text):
    found = escape(text)
    known = r"\\[&%$#_{}]|\\text[a-z]+\{\}|\$\\[a-z]+\$|\$[+-]\d([\d.]|\{,\})*\$|\{\[\}|\{\]\}"
    assert not re.search(r"[&%$#_{}~^\\\n]", re.sub(known, "", found))
    assert read(table(["x", "y"], [[text, "1"]]))[1] == [found, "1"]


def test_tables_of_a_page_are_named_by_section_and_quoted(tmp_path):
    frame = pd.DataFrame({"metric": ["age MAE"], "value": ["5.10"]})
    tables = [("Headline", "", frame), ("Who, by age", "gaps", frame), ("Who, by age", "", frame.iloc[:0])]
    write_tables(tables, tmp_path, "small on morph", {"protocol": "random, fold 0", "command": "a\nb"})
    assert {file.name for file in tmp_path.iterdir()} == {
        "headline.tex", "who_by_age.tex", "who_by_age-2.tex",
    }  # fmt: skip
    text = (tmp_path / "who_by_age.tex").read_text()
    assert text.startswith("% protocol: random, fold 0\n% command: a b\n% \\usepackage{booktabs}\n")
    assert r"\caption{Who, by age. gaps. small on morph.}" in text
    assert r"\caption{Headline. small on morph.}" in (tmp_path / "headline.tex").read_text()
    assert r"\label{tab:who_by_age}" in text

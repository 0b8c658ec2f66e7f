"""Values of YAML with their lines: what is read as what, where it stands, and what aliases may do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hawkwing.errors import ConfigError
from hawkwing.yaml_lines import Fault, YamlError, dotted, problem_lines, read_yaml, read_yaml_file
from hawkwing.yaml_mistakes import MAX_DEPTH

FILE = Path("hawk.yaml")


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("1:20", "1:20"),
        ("010", "010"),
        ("0", 0),
        ("-5", -5),
        ("+5", 5),
        ("9" * 18, int("9" * 18)),
        ("9" * 19, "9" * 19),
        ("1.5", "1.5"),
        ("2026-11-26", "2026-11-26"),
        ("0x10", "0x10"),
        ("1_000", "1_000"),
        ("Yes", True),
        ("ON", True),
        ("true", True),
        ("no", False),
        ("Off", False),
        ("FALSE", False),
        ("~", None),
        ("Null", None),
        ("", None),
        ("'5'", "5"),
        ('"yes"', "yes"),
        ("!!str 5", "5"),
        ("!!int 5", 5),
        ("!!bool yes", True),
        ("!!null ''", None),
        ("y", "y"),
    ],
)
def test_what_a_word_is_read_as(written: str, value: object) -> None:
    document = read_yaml(f"a: {written}\n")
    assert document.data == {"a": value} and document.faults == []
    assert type(document.data["a"]) is type(value)


def test_each_value_has_its_line() -> None:
    document = read_yaml("# x\na: 1\nb:\n  - 2\n  - c: 3\n    d:\n      e\n")
    lines = {("a",): 2, ("b",): 3, ("b", 0): 4, ("b", 1): 5, ("b", 1, "c"): 5, ("b", 1, "d"): 6}
    for place, line in lines.items():
        assert (document.line_of(place), document.holds(place)) == (line, True)
    beyond: dict[tuple[Any, ...], int] = {
        ("b", 2): 3,
        ("b", "c"): 3,
        ("b", 1, "x"): 5,
        ("a", "x"): 2,
        ("x",): 2,
    }
    for place, line in beyond.items():
        assert (document.line_of(place), document.holds(place)) == (line, False)


def test_a_fault_at_what_a_variable_has_set_names_the_variable() -> None:
    document = read_yaml("a:\n  b: 1\n")
    places = [("a", "b"), ("a", "c"), ("a", "c", "d"), ("e",)]
    faults = [Fault(document.line_of(place), place, "is wrong") for place in places]
    assert problem_lines(FILE, document, faults, {("a", "c"): "VARIABLE"}) == [
        "VARIABLE: a.c: is wrong",
        "VARIABLE: a.c.d: is wrong",
        "hawk.yaml:1: e: is wrong",
        "hawk.yaml:2: a.b: is wrong",
    ]
    assert problem_lines(FILE, document, faults[:2], {("a",): "VARIABLE"}, "warning: ") == [
        "VARIABLE: warning: a.c: is wrong",
        "hawk.yaml:2: warning: a.b: is wrong",
    ]
    assert problem_lines(FILE, document, [Fault(1, (), "is wrong")] * 2, {}) == ["hawk.yaml:1: is wrong"]


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ((), ""),
        (("services", "web", "applications", 0, "port"), "services.web.applications[0].port"),
        (("csid", 1), "csid[1]"),
        (("a b",), "['a b']"),
        (("a", "é.b"), "a['\\xe9.b']"),
        (("a-b_c",), "a-b_c"),
        ((0, "a"), "[0].a"),
    ],
)
def test_how_a_place_is_written(place: tuple[str | int, ...], text: str) -> None:
    assert dotted(place) == text


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("x: &x {a: 1, b: 2}\ny: {<<: *x, b: 3}", {"x": {"a": 1, "b": 2}, "y": {"a": 1, "b": 3}}),
        ("y: {<<: [{a: 1}, {a: 2, b: 2}]}", {"y": {"a": 1, "b": 2}}),
        ("y: {b: 3, <<: {a: 1, b: 2}}", {"y": {"b": 3, "a": 1}}),
        ("y: {'<<': {a: 1}}", {"y": {"<<": {"a": 1}}}),
        ("y: {!!merge <<: {a: 1}}", {"y": {"a": 1}}),
        ("!!map {y: !!seq [!!map {a: 1}]}", {"y": [{"a": 1}]}),
        ("x: &x [1, 2]\ny: *x\nz: [*x, *x]", {"x": [1, 2], "y": [1, 2], "z": [[1, 2], [1, 2]]}),
        ("x: {<<: &x {<<: {a: 1}, b: 2}}\ny: *x", {"x": {"a": 1, "b": 2}, "y": {"a": 1, "b": 2}}),
    ],
)
def test_aliases_and_merged_mappings(text: str, data: object) -> None:
    document = read_yaml(text)
    assert document.data == data and document.faults == []


@pytest.mark.parametrize(
    ("text", "line", "place", "sentence"),
    [
        ("a: 1\nb: 2\na: 3", 3, ("a",), "is given twice, on line 1 and on line 3"),
        ("x:\n  a: 1\n  a: 1", 3, ("x", "a"), "is given twice, on line 2 and on line 3"),
        ("x: 1\na: {<<: 5}", 2, ("a", "<<"), "can merge mappings only"),
        ("a:\n  <<: [{b: 1}, c]", 2, ("a", "<<"), "can merge mappings only"),
        ("x: 1\n? [a]\n: b", 2, (), "has a key that is not a single word or text"),
        ("x: 1\n? {a: 1}\n: b", 2, (), "has a key that is not a single word or text"),
        ("x: 1\ny: {{ a }}", 2, ("y",), "has {{ }} in it: templates are not expanded in the file"),
        ("x: 1\ny: ${A}", 2, ("y",), "${A}: variables are not expanded in the file"),
        ("x: 1\ny: '{{ a }}'", 2, ("y",), "{{ a }}: templates are not expanded in the file"),
        ("x: 1\ny: !!float 1.5", 2, ("y",), "has the YAML tag !!float, which is not supported"),
        ("x: 1\ny: !Ref a", 2, ("y",), "has the YAML tag !Ref, which is not supported"),
        ("x: 1\ny: !!set {a}", 2, ("y",), "has the YAML tag !!set, which is not supported"),
        ("x: 1\ny: !!omap [a]", 2, ("y",), "has the YAML tag !!omap, which is not supported"),
        ("x: 1\ny: a\u00a0b", 2, ("y",), "has a no-break space (U+00A0) in it, use plain spaces only"),
    ],
)
def test_faults_that_reading_goes_on_after(
    text: str, line: int, place: tuple[str | int, ...], sentence: str
) -> None:
    document = read_yaml(f"{text}\nlast: read\n")
    assert document.faults == [Fault(line, place, sentence)]
    assert document.data["last"] == "read"


def test_what_is_behind_x_may_have_any_characters() -> None:
    assert read_yaml("x-a: {b: '${A} “x”'}").faults == []
    assert len(read_yaml("ax-a: {b: '${A}'}").faults) == 1


def test_an_alias_of_itself_is_refused() -> None:
    for text in ("x: 1\na: &a [*a]", "x: 1\na: &a {b: [*a]}", "x: 1\na: &a {<<: *a}"):
        with pytest.raises(YamlError, match="has an alias of itself in it") as caught:
            read_yaml(text)
        assert caught.value.line == 2


def test_aliases_are_no_way_around_the_depth() -> None:
    def nested(levels: int) -> str:
        return "a0: &a0 [1]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, levels))

    assert read_yaml(nested(MAX_DEPTH - 1)).faults == []
    with pytest.raises(YamlError, match=f"^is nested more than {MAX_DEPTH} deep$") as caught:
        read_yaml(nested(MAX_DEPTH))
    assert caught.value.line == 1


def test_aliases_may_repeat_a_hundred_thousand_values_and_no_more() -> None:
    """However many values the file has besides."""
    anchor = f"a: &a [{', '.join(['1'] * 999)}]\nb: [{', '.join(['2'] * 5000)}]\nc: ["
    assert len(read_yaml(anchor + ", ".join(["*a"] * 99) + "]").data["c"]) == 99
    with pytest.raises(YamlError, match="repeats too much through aliases"):
        read_yaml(anchor + ", ".join(["*a"] * 102) + "]")


def test_a_large_file_is_read_and_a_few_lines_of_aliases_are_not() -> None:
    assert len(read_yaml("[" + "a, " * 120_000 + "]").data) == 120_000
    assert len(read_yaml("a: &a [" + "1, " * 1000 + "]\nb: [" + "*a, " * 90 + "]").data["b"]) == 90
    with pytest.raises(YamlError, match="repeats too much through aliases") as caught:
        read_yaml("a: &a [" + "1, " * 1000 + "]\nb: [" + "*a, " * 120 + "]")
    assert caught.value.line == 1
    bomb = "".join(
        f"a{n}: &a{n} {{<<: [{{b: 1}}, {{c: 1}}], d: [{f'*a{n - 1}, ' * 9}]}}\n" for n in range(1, 9)
    )
    with pytest.raises(YamlError, match="repeats too much through aliases"):
        read_yaml(f"a0: &a0 [1]\n{bomb}")


@pytest.mark.parametrize(
    ("repeated", "times", "more"),
    [
        ("[" + "1, " * 10 + "]", 9, 5),
        ("{" + ", ".join(f"k{number}: 1" for number in range(10)) + "}", 10, 4),
    ],
)
def test_each_value_of_a_list_or_mapping_counts_as_repeated(
    repeated: str, times: int, more: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hawkwing.yaml_lines._MAX_REPEATED", 100)
    text = f"a: &a {repeated}\nc: &c 1\nb: [" + "*a, " * times + "*c, " * more
    assert len(read_yaml(text + "]").data["b"]) == times + more
    with pytest.raises(YamlError, match="repeats too much through aliases"):
        read_yaml(text + "*c]")


def test_merging_one_mapping_over_and_over_is_repeating() -> None:
    """The mapping stays small, but the work doesn't."""
    anchor = f"a: &a {{{', '.join(f'k{number}: 1' for number in range(1000))}}}\nb: {{<<: ["
    most = anchor + ", ".join(["*a"] * 100) + "]}\nc: &c 1\nd: [" + "*c, " * 7
    assert len(read_yaml(most + "]").data["b"]) == 1000
    with pytest.raises(YamlError, match="repeats too much through aliases") as caught:
        read_yaml(most + "*c]")
    assert caught.value.line == 4
    with pytest.raises(YamlError, match="repeats too much through aliases") as caught:
        read_yaml(anchor + ", ".join(["*a"] * 103) + "]}")
    assert caught.value.line == 1


@pytest.mark.parametrize(("text", "data"), [("", None), ("# only\n", None), ("word", "word")])
def test_files_with_hardly_anything(text: str, data: object) -> None:
    document = read_yaml(text)
    assert document.data == data and document.line_of(("services",)) == 1


def test_a_file_may_be_as_large_as_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hawkwing.yaml_lines.MAX_FILE_BYTES", 1 << 20)
    file, text = tmp_path / "hawk.yaml", "a: 1\n#"
    file.write_text(text + "x" * ((1 << 20) - len(text)))
    assert read_yaml_file(file).data == {"a": 1}
    with file.open("a") as more:
        more.write("x")
    with pytest.raises(ConfigError) as caught:
        read_yaml_file(file)
    assert caught.value.problems == [f"{file}: is larger than 1 MiB"]


@pytest.mark.parametrize(
    ("content", "line"), [(b"\xff", 1), (b"\na: \xff", 2), (b"a: 1\n\n\xfcb", 3), (b"\xef\xbb\xbfa: \xff", 1)]
)
def test_the_line_of_bytes_that_are_no_text(tmp_path: Path, content: bytes, line: int) -> None:
    file = tmp_path / "hawk.yaml"
    file.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read_yaml_file(file)
    assert caught.value.problems[0].startswith(f"{file}:{line}: is not text in UTF-8")


def test_names_of_files_that_cannot_be_read(tmp_path: Path) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    for path, said in (
        (tmp_path / "none", "no such file"),
        (tmp_path, "is a directory, a file is needed"),
        (Path("a\0b"), "can't be read: embedded null byte"),
        (loop, "can't be read: Too many levels of symbolic links"),
    ):
        with pytest.raises(ConfigError) as caught:
            read_yaml_file(path)
        assert caught.value.problems == [f"{path}: {said}"]

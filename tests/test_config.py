from dataclasses import dataclass
from enum import StrEnum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntmobile.config import (
    BOOLEAN,
    PORT,
    ConfigError,
    domain_name,
    integer,
    lines_of,
    list_of,
    one_of,
    optional_table,
    parse,
    render,
    required,
    setting,
    table,
    tables,
    text,
)


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    name: str = required(text())
    from_: tuple[int, ...] = setting(list_of(integer(-5, 5)), ())


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    port: int = setting(PORT, 80)
    colour: Colour = setting(one_of(Colour), Colour.RED)  # noqa: RUF009
    shiny: bool = setting(BOOLEAN, False)
    leaf: Leaf | None = optional_table(Leaf)  # noqa: RUF009


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    title: str = setting(text(), "")
    branch: Branch = table(Branch)  # noqa: RUF009
    leaf: tuple[Leaf, ...] = tables(Leaf)


LEAVES = st.builds(
    Leaf,
    name=st.text().filter(str.isprintable),
    from_=st.lists(st.integers(-5, 5), unique=True).map(tuple),
)
BRANCHES = st.builds(
    Branch,
    port=st.integers(1, 65535),
    colour=st.sampled_from(Colour),
    shiny=st.booleans(),
    leaf=st.none() | LEAVES,
)
TREES = st.builds(
    Tree,
    title=st.text().filter(str.isprintable),
    branch=BRANCHES,
    leaf=st.lists(LEAVES, max_size=3).map(tuple),
)


@given(TREES)
def test_what_is_rendered_parses_to_an_equal_object(tree: Tree) -> None:
    assert parse(render(tree), "tree.toml", Tree) == tree


@given(TREES, st.data())
def test_a_wrong_value_is_named_by_its_line(tree: Tree, data: st.DataObject) -> None:
    lines = render(tree).splitlines()
    settings = [n for n, line in enumerate(lines) if " = " in line]
    wrong = data.draw(st.sampled_from(settings))
    key = lines[wrong].partition(" = ")[0]
    lines[wrong] = f"{key} = 1979-05-27"

    with pytest.raises(ConfigError) as caught:
        parse("\n".join(lines), "tree.toml", Tree)

    assert caught.value.line == wrong + 1
    assert caught.value.key.endswith(key)


@given(st.text())
def test_any_text_parses_or_is_refused_with_a_line(content: str) -> None:
    error = error_of(content)

    assert error is None or 1 <= error.line <= content.count("\n") + 1


def test_an_unknown_setting_is_refused_with_what_is_known() -> None:
    with pytest.raises(ConfigError) as caught:
        parse("# note\n\n[branch]\nport = 1\nprot = 2\n", "tree.toml", Tree)

    assert caught.value.problem == "tree.toml, line 5: branch.prot: no such setting"
    assert caught.value.remedy == "correct that line; allowed: port, colour, shiny, leaf"


def test_a_wrong_word_is_refused_with_the_words_that_are_allowed() -> None:
    with pytest.raises(ConfigError) as caught:
        parse('[branch]\ncolour = "green"\n', "tree.toml", Tree)

    assert caught.value.problem == 'tree.toml, line 2: branch.colour: "green" is not allowed'
    assert caught.value.remedy == 'correct that line; allowed: "red", "blue"'


def test_a_missing_setting_is_named_at_its_table() -> None:
    with pytest.raises(ConfigError) as caught:
        parse('[[leaf]]\nname = "a"\n\n[[leaf]]\nfrom = [1]\n', "tree.toml", Tree)

    assert (caught.value.line, caught.value.key) == (4, "leaf[2].name")


def test_a_value_where_a_table_belongs_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        parse("title = ''\nbranch = 3\n", "tree.toml", Tree)

    assert (caught.value.line, caught.value.allowed) == (2, "[branch]")


def test_text_that_is_not_toml_is_refused_with_its_line() -> None:
    with pytest.raises(ConfigError) as caught:
        parse('title = ""\ntitle\n', "tree.toml", Tree)

    assert caught.value.line == 2


def test_a_number_is_no_truth_value_and_the_other_way_round() -> None:
    for wrong in ("port = true", "shiny = 1"):
        with pytest.raises(ConfigError):
            parse(f"[branch]\n{wrong}\n", "tree.toml", Tree)


def test_lines_are_found_through_long_values_and_nested_tables() -> None:
    found = lines_of(
        '# comment\na = """\nb = 1\n"""\n\n[[x]]\nlist = [\n  1,\n  # two\n  2,\n]\nc = 1\n'
        "[x.sub]\nd = { e = 1 }\n[[x]]\nc = 2\n"
    )

    assert found == {
        ("a",): 2,
        ("x", 0): 6,
        ("x", 0, "list"): 7,
        ("x", 0, "c"): 12,
        ("x", 0, "sub"): 13,
        ("x", 0, "sub", "d"): 14,
        ("x", 0, "sub", "d", "e"): 14,
        ("x", 1): 15,
        ("x", 1, "c"): 16,
    }


@pytest.mark.parametrize("name", ["NTM.Example.ORG.", "a-b.c", "xn--bcher-kva.example"])
def test_a_domain_name_is_lower_case_without_final_dot(name: str) -> None:
    assert domain_name(name) == name.lower().rstrip(".")


@pytest.mark.parametrize(
    "name", ["", "example", "a..b", "-a.example", "a-.example", "a_b.example", "ü.example", 3]
)
def test_what_is_no_domain_name_is_refused(name: object) -> None:
    with pytest.raises(ValueError, match="domain name"):
        domain_name(name)


def error_of(content: str) -> ConfigError | None:
    try:
        parse(content, "tree.toml", Tree)
    except ConfigError as error:
        return error
    return None

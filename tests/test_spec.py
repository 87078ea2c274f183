"""Call strings: what is written reads back equal, what has no place is refused, and nothing is evaluated."""

import builtins
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sparring.attacks import ATTACKS, PGD
from sparring.core.call import literal
from sparring.core.errors import InputError
from sparring.core.spec import Catalogue, Component, convert, show_number, suggest
from sparring.core.spec import example as shown_example
from sparring.core.threat import L2, THREATS, Linf
from sparring.data import SOURCES


class Fruit(Component):
    """A kind of component for these tests."""


@dataclass(frozen=True, kw_only=True)
class Apple(Fruit):
    """A component with a field of every type."""

    name = "apple"
    count: int
    weight: float = 0.5
    ripe: bool = True
    sort: str = "boskoop"
    colour: Literal["red", "green"] = "red"
    sizes: tuple[int, ...] = ()
    corner: tuple[float, float] = (0.0, 1.0)
    neighbour: Fruit | None = None


@dataclass(frozen=True)
class Basket(Fruit):
    """A component of components."""

    name = "basket"
    first: Fruit
    second: Fruit | float = 0.0
    rest: tuple[Fruit, ...] = ()


FRUITS = Catalogue(Fruit, "fruit", (Apple, Basket))

numbers = st.floats(allow_nan=False)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
apples = st.builds(
    Apple,
    count=st.integers(),
    weight=numbers,
    ripe=st.booleans(),
    sort=texts,
    colour=st.sampled_from(["red", "green"]),
    sizes=st.lists(st.integers(), max_size=3).map(tuple),
    corner=st.tuples(numbers, numbers),
)
fruits = st.recursive(
    apples,
    lambda inner: st.one_of(
        st.builds(Apple, count=st.integers(), neighbour=inner),
        st.builds(Basket, inner, st.one_of(inner, numbers), st.lists(inner, max_size=2).map(tuple)),
    ),
    max_leaves=5,
)


def refusal(parse: Callable[[], object]) -> str:
    """Give the message with which something is refused; it must be one line."""
    with pytest.raises(InputError) as caught:
        parse()
    message = str(caught.value)
    assert message
    assert "\n" not in message
    return message


# -------------------------------------------------------------------------------------------------------- round trips


@given(fruits)
def test_repr_and_str_of_any_component_read_back_to_an_equal_one(fruit: Fruit) -> None:
    assert FRUITS.parse(repr(fruit)) == fruit
    assert FRUITS.parse(str(fruit)) == fruit
    assert repr(FRUITS.parse(str(fruit))) == repr(fruit)


@given(numbers)
@example(1e308)
@example(-1.7976931348623157e308)
@example(5e-324)
@example(8 / 255)
@example(-8 / 255)
@example(1 / 3)
@example(math.inf)
@example(-math.inf)
@example(-0.0)
def test_every_number_reads_back_to_the_bit(value: float) -> None:
    found = literal(show_number(value))
    assert type(found) in (int, float)
    assert found == value
    assert math.copysign(1, found) == math.copysign(1, value)


@pytest.mark.parametrize("levels", [1, 2, 8, 16, 100])
def test_whole_8_bit_steps_are_written_as_such(levels: int) -> None:
    assert show_number(levels / 255) == f"{levels}/255"
    assert str(THREATS.parse(f"linf({levels}/255)")) == f"linf(eps={levels}/255)"


def test_str_leaves_defaults_out_and_repr_keeps_them() -> None:
    assert str(PGD(steps=7)) == "pgd(steps=7)"
    assert "restarts=1" in repr(PGD(steps=7))
    assert str(PGD()) == "pgd()"
    assert str(Apple(count=1, neighbour=Apple(count=2))) == "apple(count=1, neighbour=apple(count=2))"


@pytest.mark.parametrize(
    "fruit",
    [
        Apple(count=np.int64(3), weight=np.float64(0.1), ripe=np.bool_(False), sort=np.str_("cox")),
        Apple(count=3, weight=1, sizes=[np.int64(1), 2], corner=np.array([0.25, 1])),
        Basket("apple(count=1)", np.float32(0.5), ["apple(count=2)"]),
    ],
)
def test_a_component_made_in_python_is_the_one_that_its_call_string_names(fruit: Fruit) -> None:
    assert FRUITS.parse(repr(fruit)) == fruit
    assert repr(FRUITS.parse(repr(fruit))) == repr(fruit)
    assert hash(fruit) == hash(FRUITS.parse(str(fruit)))


def test_whole_numbers_and_numpys_make_the_same_threat() -> None:
    assert repr(Linf(1)) == repr(THREATS.parse("linf(1)")) == repr(Linf(np.float64(1)))


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Apple(count="three"), "apple: count: expected a whole number, not 'three'"),
        (lambda: Apple(count=1.5), "apple: count: expected a whole number, not 1.5"),
        (lambda: Apple(count=1, colour="blue"), "'blue' is not one of"),
        (lambda: Basket("aple(count=1)"), "did you mean 'apple'"),
        (lambda: Basket(3), "basket: first: expected fruit"),
        (lambda: Linf("far"), "linf: eps: expected a number, not 'far'"),
        (lambda: PGD(steps="40"), "pgd: steps: expected a whole number, not '40'"),
    ],
)
def test_what_does_not_fit_a_field_is_refused_in_python_as_in_a_call_string(
    make: Callable[[], object], told: str
) -> None:
    assert told in refusal(make)


def test_every_example_that_is_shown_can_be_used_once_what_is_required_is_filled_in() -> None:
    for catalogue in (ATTACKS, THREATS):
        for component in catalogue:
            text = shown_example(component).replace("(eps)", "(0.5)")
            text = text.replace("(surrogate, attack)", "(surrogate='a run', attack=fgsm())").replace(
                "(run)", "(run='a run')"
            )
            assert isinstance(catalogue.parse(text), component)


# ------------------------------------------------------------------------------------------------- what can be written


@pytest.mark.parametrize(
    ("text", "eps"),
    [
        ("linf(8/255)", 8 / 255),
        ("linf(eps=8/255)", 8 / 255),
        (" linf( 0.3 ) ", 0.3),
        ("linf(1)", 1.0),
        ("linf(inf)", math.inf),
        ("linf(+inf)", math.inf),
        ("linf((1 + 2) * 3 / 255 - 1/255)", 8 / 255),
        ("linf(--0.5)", 0.5),
        ("linf(1e-3)", 0.001),
        ("linf(1_0/255)", 10 / 255),
        ("linf(\n  eps = 0.5,\n)", 0.5),
    ],
)
def test_arithmetic_is_done(text: str, eps: float) -> None:
    found = THREATS.parse(text)
    assert found == Linf(eps)
    assert type(found.eps) is float


def test_arguments_go_by_name_or_by_place_in_any_mixture() -> None:
    expected = PGD(steps=7, rel_step_size=0.2, restarts=3)
    for text in (
        "pgd(7, 0.2, 3)",
        "pgd(7, restarts=3, rel_step_size=0.2)",
        "pgd(restarts=3, steps=7, rel_step_size=1/5)",
    ):
        assert ATTACKS.parse(text) == expected


def test_a_bare_name_is_a_call_without_arguments() -> None:
    assert ATTACKS.parse("pgd") == ATTACKS.parse("pgd()") == PGD()
    assert FRUITS.parse("apple(1, neighbour=apple(count=2))").neighbour == Apple(count=2)


def test_lists_and_tuples_are_the_same() -> None:
    for text in ("apple(1, sizes=[1, 2])", "apple(1, sizes=(1, 2))", "apple(1, sizes=(1, 2,))"):
        assert FRUITS.parse(text).sizes == (1, 2)


def test_text_may_be_in_any_script_and_either_quotes() -> None:
    assert FRUITS.parse("apple(1, sort='Świętokrzyska 🍏')").sort == "Świętokrzyska 🍏"
    assert FRUITS.parse('apple(1, sort="it\'s")').sort == "it's"


def test_components_pass_through_and_nest_as_text_too() -> None:
    apple = Apple(count=1)
    assert FRUITS.parse(apple) is apple
    assert FRUITS.parse("basket('apple(3)', apple(4))") == Basket(Apple(count=3), Apple(count=4))
    assert FRUITS.parse("basket(apple(3), 4)") == Basket(Apple(count=3), 4.0)


def test_truth_and_nothing_are_written_as_the_messages_say_or_as_python_does() -> None:
    assert "true or false" in refusal(lambda: ATTACKS.parse("pgd(random_start=3)"))
    for written in ("false", "False"):
        assert ATTACKS.parse(f"pgd(random_start={written})") == PGD(random_start=False)
        assert literal(written) is False
    for written in ("true", "True"):
        assert ATTACKS.parse(f"pgd(random_start={written})") == PGD(random_start=True)
    assert "or none" in refusal(lambda: FRUITS.parse("apple(1, neighbour=3)"))
    for written in ("none", "None"):
        assert FRUITS.parse(f"apple(1, neighbour={written})") == Apple(count=1)


# ---------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("pdg()", "did you mean 'pgd'?"),
        ("fgms", "did you mean 'fgsm'?"),
        ("uniform(draws=3)", "did you mean 'uniform_noise'?"),
        ("pgd(stesp=3)", "did you mean 'steps'?"),
        ("pgd(restart=3)", "did you mean 'restarts'?"),
        ("xyzzy()", "there are: "),
        ("fgsm(eps=0.3)", "there are: none"),
        ("PGD()", "unknown attack 'PGD'"),
        ("пгд()", "unknown attack"),
    ],
)
def test_an_unknown_name_is_told_what_it_might_have_meant(text: str, hint: str) -> None:
    assert hint in refusal(lambda: ATTACKS.parse(text))


def test_suggestions_name_the_closest_or_all() -> None:
    assert suggest("stpes", ["steps", "restarts"]) == "; did you mean 'steps'?"
    assert suggest("q", ["steps", "restarts"]) == "; there are: steps, restarts"
    assert suggest("q", []) == "; there are: none"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("pgd(steps='7')", "pgd: steps: expected a whole number, not '7'"),
        ("pgd(steps=7.0)", "pgd: steps: expected a whole number, not 7.0"),
        ("pgd(steps=True)", "pgd: steps: expected a whole number, not True"),
        ("pgd(steps=None)", "pgd: steps: expected a whole number, not None"),
        ("pgd(steps=(1, 2))", "pgd: steps: expected a whole number, not (1, 2)"),
        ("pgd(steps=fgsm())", "pgd: steps: expected a whole number, not fgsm"),
        ("pgd(rel_step_size='x')", "pgd: rel_step_size: expected a number"),
        ("pgd(rel_step_size=True)", "pgd: rel_step_size: expected a number"),
        ("pgd(random_start=1)", "pgd: random_start: expected true or false"),
        ("pgd(loss='hinge')", "pgd: loss: 'hinge' is not one of 'cross_entropy', 'margin', 'dlr', 'kl'"),
        ("pgd(steps=1, steps=2)", "pgd"),
        ("pgd(7, steps=7)", "pgd: argument 'steps' is given twice"),
        ("pgd(1, 0.1, 1, 'margin', True, 0.0, 9)", "pgd: takes at most 6 arguments, not 7"),
        ("fgsm(1)", "fgsm: takes at most 0 arguments, not 1"),
        ("pgd(steps=0)", "pgd: steps and restarts must be at least 1"),
        ("pgd(restarts=-1)", "pgd: steps and restarts must be at least 1"),
        ("uniform_noise(draws=0)", "uniform_noise: draws must be at least 1"),
    ],
)
def test_a_wrong_argument_is_named_with_what_is_wanted(text: str, said: str) -> None:
    assert said in refusal(lambda: ATTACKS.parse(text))


def test_a_missing_argument_is_named() -> None:
    assert refusal(lambda: THREATS.parse("linf()")) == "linf: argument 'eps' is missing"
    assert refusal(lambda: THREATS.parse("l2")) == "l2: argument 'eps' is missing"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("apple(1, colour='blue')", "'blue' is not one of 'red', 'green'"),
        ("apple(1, sizes=3)", "apple: sizes"),
        ("apple(1, sizes=(1, 'x'))", "apple: sizes: expected a whole number, not 'x'"),
        ("apple(1, corner=(1, 2, 3))", "apple: corner"),
        ("apple(1, neighbour=3)", "apple: neighbour: expected fruit or none, not 3"),
        ("apple(1, neighbour=aple(2))", "unknown fruit 'aple'; did you mean 'apple'?"),
        ("basket(apple(1), aple(2))", "unknown fruit 'aple'; did you mean 'apple'?"),
        ("basket(3)", "basket: first: expected fruit such as apple(...), not 3"),
        ("basket(apple(cuont=2))", "apple: unknown argument 'cuont'; did you mean 'count'?"),
    ],
)
def test_a_fault_inside_a_nested_component_is_found(text: str, said: str) -> None:
    assert said in refusal(lambda: FRUITS.parse(text))


def test_a_word_without_quotes_where_text_is_wanted_is_shown_as_it_was_written() -> None:
    message = refusal(lambda: ATTACKS.parse("pgd(loss=margin)"))
    assert "Call(" not in message
    assert "margin" in message


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "3",
        "'pgd()'",
        "(pgd(), fgsm())",
        "None",
        "pgd(",
        "pgd())",
        "pgd() fgsm()",
        "pgd(); fgsm()",
        "pgd(steps 3)",
        "pgd(steps==3)",
        "pgd(3=steps)",
        "import os",
        "x = pgd()",
        "pgd()\nfgsm()",
        "\x00",
        "pgd(\x00)",
        "pgd(steps=3) if True else fgsm()",
        "pgd(steps=0777)",
        "pgd().__class__",
        "sparring.attacks.PGD()",
        "os.system('true')",
        "pgd(steps=os.getpid())",
        "pgd(steps=[].__len__())",
        "pgd()()",
        "(lambda: pgd())()",
        "pgd(lambda: 1)",
        "pgd(lambda x: x)",
        "pgd(steps=[i for i in range(3)])",
        "pgd(steps={i for i in (1,)})",
        "pgd(steps=(i for i in (1,)))",
        "pgd(steps={'a': 1})",
        "pgd(steps={1})",
        "pgd(f'{1}')",
        'pgd(loss=f"""{1}\n{2}""")',
        "pgd(*[1, 2])",
        "pgd(**{'steps': 3})",
        "pgd(steps=3, **{})",
        "pgd(steps=(1).real)",
        "pgd(steps=(1, 2)[0])",
        "pgd(steps=(n := 3))",
        "pgd(steps=2 ** 3)",
        "pgd(steps=7 // 2)",
        "pgd(steps=7 % 2)",
        "pgd(steps=1 << 3)",
        "pgd(steps=~1)",
        "pgd(steps=not 1)",
        "pgd(steps=1 or 2)",
        "pgd(steps=1 < 2)",
        "pgd(steps=1 if 1 else 2)",
        "pgd(steps=...)",
        "pgd(steps=3j)",
        "pgd(loss=b'margin')",
        "pgd(loss='mar' + 'gin')",
        "pgd(loss='m' * 3)",
        "pgd(loss='%s' % 3)",
        "pgd(steps=-'3')",
        "pgd(steps=True + 1)",
        "pgd(steps=-fgsm())",
        "pgd(steps=await x)",
        "pgd(steps=(yield))",
        "pgd(rel_step_size=1/0)",
        "pgd(rel_step_size=0/0)",
        "__import__('os').system('true')",
        "__import__('os')",
        "pgd(steps=__import__('os'))",
        "eval('1')",
        "exec('1')",
        "open('canary', 'w')",
        "pgd(steps=open('canary', 'w'))",
        "pgd(steps=print(1))",
        "print",
        "__builtins__",
        "breakpoint()",
    ],
)
def test_what_has_no_place_in_a_call_string_is_refused_and_nothing_is_run(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ran: list[str] = []
    for name in ("eval", "exec", "open", "print", "breakpoint", "__import__"):
        honest = getattr(builtins, name)
        monkeypatch.setattr(builtins, name, lambda *a, n=name, h=honest, **k: ran.append(n) or h(*a, **k))
    try:
        with pytest.raises(InputError) as caught:
            ATTACKS.parse(text)
    finally:
        monkeypatch.undo()
    assert ran == []
    assert not (tmp_path / "canary").exists()
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "text",
    [
        "pgd(" * 5000 + ")" * 5000,
        "pgd(steps=" + "(" * 5000 + "1" + ")" * 5000 + ")",
        "pgd(steps=" + "-" * 100_000 + "1)",
        "pgd(steps=" + "1+" * 100_000 + "1)",
        "pgd(sizes=" + "[" * 150 + "]" * 150 + ")",
        "-" * 100_000 + "1",
        "pgd(steps=" + "9" * 5000 + ")",
    ],
    ids=["calls", "brackets", "signs", "sums", "lists", "no call", "digits"],
)
def test_text_that_is_nested_too_deeply_is_refused(text: str) -> None:
    refusal(lambda: ATTACKS.parse(text))
    assert literal(text) == text


@pytest.mark.parametrize(
    "text",
    ["l2(1" + "0" * 400 + ")", "l2(1e308 * 1" + "0" * 400 + ")", "l2(" + "*".join(["9" * 4000] * 2) + ")"],
    ids=["whole", "product", "huge"],
)
def test_a_number_too_large_for_a_float_is_refused(text: str) -> None:
    refusal(lambda: THREATS.parse(text))


def test_a_number_too_large_to_be_printed_is_refused() -> None:
    huge = "*".join(["9" * 4000] * 2)
    message = refusal(lambda: ATTACKS.parse(f"pgd(loss={huge})"))
    assert "loss" in message


@pytest.mark.parametrize("value", [3, None, 3.5, b"pgd()", ["pgd()"], {"name": "pgd"}, PGD, Linf(0.1)])
def test_what_is_neither_text_nor_component_is_refused(value: object) -> None:
    assert "attack: expected a call string such as" in refusal(lambda: ATTACKS.parse(value))  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------- literals and types


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("-3.5", -3.5),
        ("8/255", 8 / 255),
        ("True", True),
        ("None", None),
        ("(1, 2)", (1, 2)),
        ("[1, 'a']", (1, "a")),
        ("'quoted'", "quoted"),
        ("inf", math.inf),
        ("pgd(steps=3)", "pgd(steps=3)"),
        ("some text", "some text"),
        ("/a/path.toml", "/a/path.toml"),
        ("1/0", "1/0"),
        ("", ""),
        ("a\x00b", "a\x00b"),
    ],
)
def test_a_literal_is_read_and_other_text_stands_for_itself(text: str, value: object) -> None:
    found = literal(text)
    assert found == value
    assert type(found) is type(value)


def test_values_become_the_type_that_is_wanted_or_are_refused() -> None:
    assert convert(3, float, "lr") == 3.0
    assert type(convert(3, float, "lr")) is float
    assert convert(None, int | None, "n") is None
    assert convert([1, 2], tuple[float, ...], "t") == (1.0, 2.0)
    assert convert("l2(0.5)", L2, "threat") == L2(0.5)
    assert refusal(lambda: convert(3.0, int, "epochs")) == "epochs: expected a whole number, not 3.0"
    assert refusal(lambda: convert("x", int | None, "n")) == "n: expected a whole number or none, not 'x'"


def test_a_name_of_the_same_kind_but_not_of_the_wanted_class_is_refused() -> None:
    refusal(lambda: convert("linf(0.5)", L2, "threat"))


@pytest.mark.parametrize(
    ("parse", "says"),
    [
        (lambda: THREATS.parse("8/255"), "'8/255' is not a call such as linf(8/255)"),
        (lambda: THREATS.parse("0.5"), "'0.5' is not a call such as linf(0.5)"),
        (lambda: THREATS.parse("far away"), "'far away' is not a call such as linf(8/255)"),
        (lambda: THREATS.parse("linf(1.5)"), "did you mean linf(1.5/255)?"),
        (lambda: ATTACKS.parse("pgd steps"), "is not a call such as pgd(steps=40)"),
        (lambda: ATTACKS.parse("pgd(loss=margin)"), "margin is not one of 'cross_entropy', "),
        (lambda: ATTACKS.parse("pgd(loss=margin)"), "; write it in quotes: 'margin'"),
        (lambda: SOURCES.parse("folder(photos)"), "expected text, not photos; write it in quotes: 'photos'"),
        (lambda: SOURCES.parse("folder(photos/x)"), "texts stand in quotes"),
        (lambda: ATTACKS.parse(PGD), "not the class PGD; make one: PGD()"),
        (lambda: SOURCES.parse("digits"), None),
    ],
)
def test_a_malformed_call_string_is_answered_with_one_of_its_kind(
    parse: Callable[[], object], says: str | None
) -> None:
    if says is None:
        assert parse() is not None  # a name alone is a call without arguments
    else:
        assert says in refusal(parse)

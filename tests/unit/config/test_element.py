from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.config.element import MAX_PROBLEMS, Document, compose, fill, shown
from bridge.config.problems import ConfigErrors, Refused
from tests.support.configured import configured, problems


def document(environ: dict[str, str] | None = None) -> Document:
    return Document("bridge.yaml", Path("/nowhere"), environ or {})


# -- text that is not YAML ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "has", "text"),
    [
        (2, 'a key that begins with * needs quotes: "*": …', "services:\n  *: null"),
        (1, 'text that begins with * needs quotes: "*": …', "services: *all"),
        (2, "indent with spaces, not tabs", "services:\n\ta: b"),
        (1, 'between {} or [] a ${…} needs quotes: "${NAME}"', "log: {level: ${LEVEL}}"),
        (1, 'an IPv6 address needs quotes: "[::1]:50051"', "listen: [::1]:50051"),
        (1, 'text with ": " in it needs quotes', "listen: here: there"),
        (1, "text that begins with this character needs quotes", "listen: @here"),
        (2, "one file is one document: remove the ---", "drain: 5s\n---\ndrain: 6s"),
        (3, "is this line indented like its neighbours?", "log:\n  level: info\n access: true"),
        (1, "is a quotation mark missing?", "listen: 'here"),
        (3, "a flow sequence from line 2: expected ',' or ']', but got the end of the file", "a: 1\nb: [c, d\n"),
        (4, "a flow mapping from line 2: expected ',' or '}'", "a: 1\nb: {c: d,\n  e: f\n  g: h}"),
        (4, "a quoted scalar from line 1: found unexpected end of stream", "a: 'b\nc: d\ne: f\n"),
        (1, "the character U+0001 may not stand in YAML", "listen: \x01"),
        (None, "an escape or directive that cannot be read", 'listen: "\\U99999999"'),
        (None, "nested too deeply", "[" * 700),
        (None, "the file is empty; it needs services:", ""),
        (None, "the file is empty; it needs services:", "# nothing but a remark\n"),
        (1, "expected keys at the top", "just text"),
        (1, "expected keys at the top", "- a\n- list"),
    ],
)
def test_what_cannot_be_read_is_one_line_with_a_hint(line: int | None, has: str, text: str) -> None:
    """YAML's own words come with the line and what is most likely meant."""
    (problem,) = problems(text)

    place = "bridge.yaml" if line is None else f"bridge.yaml:{line}"
    assert problem.startswith(f"{place}: ")
    assert has in problem
    assert "\n" not in problem


# -- mappings ----------------------------------------------------------------------------------------------------------


def test_a_key_written_twice_is_a_problem() -> None:
    """YAML would silently take one of the two."""
    assert ["bridge.yaml:3: drain: written twice, first on line 1"] == problems(
        "drain: 5s\nservices: {a.B: function:b}\ndrain: 6s"
    )


def test_a_key_that_is_no_text_is_a_problem() -> None:
    assert ["bridge.yaml:1: ?: a key must be text"] == problems("? [a, b]\n: c\nservices: {}")


def test_a_foreign_tag_is_a_problem() -> None:
    """`!Ref` and `!!python/…` mean nothing here, and nothing is constructed from them."""
    assert ["bridge.yaml:1: log.level: the tag !Ref means nothing here"] == problems("log: {level: !Ref Level}")


def test_words_that_yaml_1_1_guesses_at_stay_the_words_written() -> None:
    """`no` as a key is a service named no, not a boolean."""
    text = "services: {no.On: null}\nfunctions: {on: {handler: a.b, env: {V: 12:30, W: no, X: 0777, Y: 2001-01-01}}}"
    element = compose(text, document()).keys()

    assert ["no.On"] == list(element["services"].keys())
    env = element["functions"].keys()["on"].keys()["env"].keys()
    assert ["12:30", "no", "0777", "2001-01-01"] == [value.text() for value in env.values()]


def test_an_alias_is_the_value_it_names() -> None:
    root = compose("a: &x {k: v}\nb: *x", document())

    assert "v" == root.keys()["b"].keys()["k"].text()


def test_a_merge_key_adds_what_is_not_written() -> None:
    """`<<` takes one mapping or several; what is written itself wins, then the first."""
    root = compose("a: &a {k: 1, l: 1}\nb: &b {l: 2, m: 2}\nc: {k: 0, <<: [*a, *b]}", document())

    merged = {name: element.text() for name, element in root.keys()["c"].keys().items()}
    assert {"k": "0", "l": "1", "m": "2"} == merged


@pytest.mark.parametrize("text", ["log: &a {<<: *a}", "log: {<<: [1]}", "log: {<<: {<<: {}}}"])
def test_a_merge_of_anything_else_is_a_problem(text: str) -> None:
    (problem,) = problems(text)

    assert problem.startswith("bridge.yaml:1: log: << takes a mapping")


def test_aliases_that_multiply_are_not_expanded() -> None:
    """A billion laughs cost what is read of them: nothing."""
    lines = [
        "a0: &a0 [x]",
        *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)),
    ]

    found = problems("\n".join(lines))
    assert 30 == len(found)


@pytest.mark.slow
def test_what_is_read_of_one_file_is_bounded() -> None:
    """Entries that share one long mapping are counted each time."""
    keys = ", ".join(f"k{n}: v" for n in range(500))
    entries = "\n".join(f"  f{n}: {{handler: a.b, env: *env}}" for n in range(500))

    (problem,) = problems(f"functions:\n  f: {{handler: a.b, env: &env {{{keys}}}}}\n{entries}")
    assert "more than 100,000 values; an alias counts each time it is used" in problem


def test_an_alias_to_itself_ends() -> None:
    assert [
        "bridge.yaml:1: listen[0]: expected an address such as 127.0.0.1:50051 or unix:/run/bridge.sock, found a list"
    ] == problems("listen: &a [*a]")


def test_the_number_of_problems_is_bounded() -> None:
    found = problems("\n".join(f"key{n}: v" for n in range(MAX_PROBLEMS * 2)))

    assert MAX_PROBLEMS + 1 == len(found)
    assert "bridge.yaml: more than 1,000 problems" in found


# -- variables ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expected", "text"),
    [
        ("value", "${VAR}"),
        ("a-value-b", "a-${VAR}-b"),
        ("valuevalue", "${VAR}${VAR}"),
        ("", "${EMPTY}"),
        ("default", "${UNSET:-default}"),
        ("default", "${EMPTY:-default}"),
        ("", "${UNSET:-}"),
        ("value", "${VAR:-default}"),
        ("a:-b", "${UNSET:-a:-b}"),
        ("$", "$$"),
        ("${VAR}", "$${VAR}"),
        ("$value", "$$${VAR}"),
        ("function:f:$LATEST", "function:f:$LATEST"),
        ("5$", "5$"),
    ],
)
def test_variables_are_filled_in(expected: str, text: str) -> None:
    assert expected == fill(text, {"VAR": "value", "EMPTY": ""})


def test_what_a_variable_holds_is_not_filled_again() -> None:
    assert "${OTHER} $$" == fill("${VAR}", {"VAR": "${OTHER} $$"})


@pytest.mark.parametrize("text", ["${", "${}", "${1}", "${A-b}", "${A:?b}", "${A", "${A:-${B}}"])
def test_a_variable_written_otherwise_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        fill(text, {"A": "a", "B": "b"})


def test_a_variable_that_is_not_set_is_a_problem_at_its_place() -> None:
    assert ["bridge.yaml:2: log.level: the variable LEVEL is not set; ${LEVEL:-…} would give it a default"] == problems(
        "log:\n  level: ${LEVEL}"
    )


def test_keys_have_variables_too() -> None:
    """The targets of a split are keys."""
    root = compose('{"${NAME}": 1}', document({"NAME": "filled"}))

    assert ["filled"] == list(root.keys())


def test_what_a_variable_holds_is_not_shown() -> None:
    """It may be a secret that went to the wrong place."""
    (problem,) = problems("drain: ${SECRET}", environ={"SECRET": "hunter2"})

    assert "hunter2" not in problem
    assert '"${SECRET}"' in problem


@pytest.mark.parametrize(
    ("expected", "text"),
    [
        (True, "k: null"),
        (True, "k: ~"),
        (True, "k:"),
        (True, "k: NULL"),
        (False, 'k: "null"'),
        (False, "k: none"),
        (True, 'k: "${NULL}"'),
        (True, "k: ${UNSET:-null}"),
        (False, "k: ${UNSET:-}"),
        (False, 'k: "${UNSET:-x}"'),
        (False, "k: []"),
    ],
)
def test_null_is_written_plainly_or_by_a_variable(expected: bool, text: str) -> None:
    element = compose(text, document({"NULL": "null"})).keys()["k"]

    assert expected is element.is_null


def test_a_variable_that_is_empty_leaves_empty_text() -> None:
    """A target that went missing is a problem, not UNIMPLEMENTED; a function's variable may be empty."""
    config = configured("functions: {f: {handler: a.b, env: {A: '${EMPTY}'}}}", environ={"EMPTY": ""})

    assert {"A": ""} == config.functions["f"].env
    assert 1 == len(problems("services: {a.B: '${EMPTY}'}", environ={"EMPTY": ""}))


def test_half_a_character_is_refused() -> None:
    element = compose('k: "\\ud800"', document()).keys()["k"]

    with pytest.raises(Refused, match="half a character"):
        element.text()


@pytest.mark.parametrize(
    ("expected", "text"),
    [
        ("plain", "plain"),
        ("two�lines", "two\nlines"),
        ("https://…@host/", "https://user:password@host/"),
        ("x" * 100 + "…", "x" * 500),
    ],
)
def test_messages_show_text_on_one_short_line_without_credentials(expected: str, text: str) -> None:
    assert expected == shown(text)


# -- garbage -----------------------------------------------------------------------------------------------------------

FRAGMENTS = st.sampled_from(
    [
        "services",
        "listen",
        "http2",
        "defaults",
        "functions",
        "aws",
        "log",
        "a.B",
        "a.B/M",
        "a.*",
        '"*"',
        "target",
        "split",
        "retry",
        "json",
        "tls",
        "headers",
        "auth",
        "iam",
        "env",
        "url",
        "command",
        "handler",
        "timeout",
        "role_arn",
        "event",
        "payload",
        "local:f",
        "function:f",
        "https://h/",
        "grpc://h:1",
        "unix:s",
        "5s",
        "4MiB",
        "20%",
        "null",
        "true",
        "&a",
        "*a",
        "<<",
        "${V}",
        "${U:-x}",
        "$$",
        "!t",
        "!!binary",
        "|",
        ">",
        "- ",
        ": ",
        ", ",
        "{",
        "}",
        "[",
        "]",
        "\n",
        "\n  ",
        "\n    ",
        "#",
        "'",
        '"',
        "? ",
        "---",
        "\t",
        "\\x00",
        "é",
        "0",
        "-1",
        "1e9",
        "010",
        "12:30",
        "127.0.0.1:1",
        "[::1]:1",
    ]
)


def outcome(text: str) -> None:
    """Nothing but a configuration or its problems, each on one line."""
    for problem in problems(text, environ={"V": "v"}):
        assert "\n" not in problem


@given(st.lists(FRAGMENTS, max_size=40).map("".join))
def test_scrambled_configurations_yield_problems_only(text: str) -> None:
    outcome(text)


@given(st.text(max_size=80))
def test_any_text_yields_problems_only(text: str) -> None:
    outcome(text)


SCALARS = st.sampled_from(
    [
        "null",
        "function:f",
        "local:f",
        "https://h.lambda-url.eu-west-1.on.aws",
        "5s",
        "4MiB",
        "1",
        "json",
        "raw",
        "iam",
        "true",
        "grpc://h:1",
        "unix:s",
        "20%",
        '"${V}"',
        "h2",
        "x",
        "[]",
        "{}",
        "&a b",
        "[1, [2]]",
        '"\\0"',
        '"\\ud800"',
        "127.0.0.1:1",
    ]
)
KEYS = st.sampled_from(
    [
        "services",
        "defaults",
        "listen",
        "http2",
        "keepalive",
        "aws",
        "functions",
        "log",
        "retry",
        "json",
        "split",
        "tls",
        "headers",
        "auth",
        "iam",
        "target",
        "payload",
        "event",
        "timeout",
        "weight",
        "address",
        "cert",
        "a.B",
        "a.B/M",
        "a.*",
        '"*"',
        "f",
        "env",
        "url",
        "handler",
        "command",
        "code",
        "role_arn",
        "arn",
        "emulator",
        "admin",
        "descriptors",
        "half_close",
        "attempts",
        "backoff",
        "max_request",
        "throttled_as",
        "invoke_mode",
        "function:f",
        "service",
        "region",
        "names",
        "level",
    ]
)
TREES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.dictionaries(KEYS, inner, max_size=6).map(
            lambda found: "{" + ", ".join(f"{key}: {value}" for key, value in found.items()) + "}"
        ),
        st.lists(inner, max_size=3).map(lambda found: "[" + ", ".join(found) + "]"),
    ),
    max_leaves=30,
)


@given(st.dictionaries(KEYS, TREES, min_size=1, max_size=6))
def test_well_formed_nonsense_yields_problems_only(tree: dict[str, str]) -> None:
    """Any value under any key."""
    outcome("\n".join(f"{key}: {value}" for key, value in tree.items()))


def test_problems_are_ordered_by_line_and_said_once() -> None:
    with pytest.raises(ConfigErrors) as refused:
        raise ConfigErrors([])

    assert () == refused.value.problems
    found = problems("wokers: 1\ndefaults: {timeout: 5}\nservices: {a.B: function:a, c.D: function:b}")
    assert ["bridge.yaml:1", "bridge.yaml:2"] == [line.split(": ")[0] for line in found]

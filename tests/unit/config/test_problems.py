from __future__ import annotations

from bridge.config.problems import ConfigErrors, Place, Problem, did_you_mean


def test_a_problem_is_one_line() -> None:
    problem = Problem("bridge.yaml", 12, "services.helloworld.Greeter.timout", "unknown key")

    assert "bridge.yaml:12: services.helloworld.Greeter.timout: unknown key" == str(problem)


def test_what_is_not_known_of_a_place_is_left_out() -> None:
    assert ["f: m", "f:1: m", "f: k: m"] == [
        str(Problem.at(place, "m")) for place in (Place("f"), Place("f", 1), Place("f", None, "k"))
    ]


def test_places_nest() -> None:
    place = Place("f").key("listen", 1).item(2, 3).key("tls", 4)

    assert Place("f", 4, "listen[2].tls") == place


def test_all_problems_are_said_once_in_the_order_of_the_file() -> None:
    first, second = Problem("f", 1, "a", "m"), Problem("f", 2, "b", "m")
    errors = ConfigErrors([second, first, second])

    assert (first, second) == errors.problems
    assert "f:1: a: m\nf:2: b: m" == str(errors)


def test_the_nearest_name_is_offered() -> None:
    known = ["timeout", "max_request", "target"]

    assert ', did you mean "timeout"?' == did_you_mean("timout", known)
    assert ', did you mean "max_request"?' == did_you_mean("Max-Request", known)
    assert "" == did_you_mean("colour", known)


def test_where_no_name_is_near_the_first_ones_may_be_listed() -> None:
    assert ', did you mean "echo"?' == did_you_mean("ecko", ["echo", "orders"], listed=True)
    assert "; there is echo" == did_you_mean("zzz", ["echo"], listed=True)
    assert "; there are a, b, c, d, e and 2 more" == did_you_mean("zzz", "abcdefg", listed=True)
    assert "" == did_you_mean("zzz", [], listed=True)

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.config.load import parse
from bridge.config.problems import ConfigErrors
from bridge.config.schema import Config
from bridge.services.configured import load_configured, warnings_about

GOOD = 'syntax = "proto3"; package good; service Good {} service Better {}'
BAD = 'syntax = "proto3"; package bad; import "missing.proto"; service Bad {}'


@pytest.fixture(autouse=True)
def folders(tmp_path: Path) -> None:
    for name, text in (("good", GOOD), ("bad", BAD), ("worse", BAD.replace("bad", "worse"))):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.proto").write_text(text)
    (tmp_path / "broken.binpb").write_bytes(b"\xff")


def configured(text: str, folder: Path) -> Config:
    return parse(text, file="bridge.yaml", folder=folder, environ={})


def problems(text: str, folder: Path) -> list[str]:
    with pytest.raises(ConfigErrors) as caught:
        load_configured(configured(text, folder))
    return [str(problem).replace(str(folder), "FOLDER") for problem in caught.value.problems]


def test_all_problems_are_told_with_line_and_key(tmp_path: Path) -> None:
    """Each at the first place that names the file."""
    text = """
services:
  good.Good: {target: "http://h", payload: json, descriptors: good}
  bad.Bad: {target: "http://h", payload: json, descriptors: bad}
  bad.Bad/Do: {target: "http://h", timeout: 2s}
  b.B: {target: "http://h", descriptors: broken.binpb}
  worse.*: {target: "http://h", payload: json, descriptors: worse}
"""
    told = problems(text, tmp_path)

    assert 3 == len(told)
    assert told[0].startswith("bridge.yaml:4: services.bad.Bad.descriptors: FOLDER/bad does not compile:\n")
    assert "FOLDER/bad/bad.proto:1:33: " in told[0]
    assert told[1].startswith("bridge.yaml:6: services.b.B.descriptors: FOLDER/broken.binpb is not")
    assert told[2].startswith("bridge.yaml:7: services.worse.*.descriptors: FOLDER/worse does not")


def test_a_service_that_json_descriptors_lack_is_a_problem(tmp_path: Path) -> None:
    """Every call to it would fail. The nearest name is told, else what there is."""
    text = """
services:
  good.Godo: {target: "http://h", payload: json, descriptors: good}
  other.Else: {target: "http://h", payload: json, descriptors: good}
"""
    nothing = "FOLDER/good declares no service that is routed to"

    assert [
        f'bridge.yaml:3: services.good.Godo.descriptors: {nothing} good.Godo, did you mean "good.Good"?',
        f"bridge.yaml:4: services.other.Else.descriptors: {nothing} other.Else; it declares good.Better, good.Good",
    ] == problems(text, tmp_path)


def test_a_service_that_descriptors_for_reflection_lack_is_a_warning(tmp_path: Path) -> None:
    """Calls work without them."""
    config = configured('services: {a.A: {target: "http://h", descriptors: good}}', tmp_path)
    loaded = load_configured(config)

    assert () == loaded[str(tmp_path / "good")].services
    (warning,) = warnings_about(config, loaded)
    assert str(warning).startswith("bridge.yaml:1: services.a.A.descriptors: ")


@pytest.mark.parametrize("key", ["good.Good", "good.Good/Do", "good.*", "*"])
def test_only_routed_services_are_described(tmp_path: Path, key: str) -> None:
    """By whichever key calls reach them; another entry's are left out of nothing."""
    config = configured(f'services: {{"{key}": {{target: "http://h", payload: json, descriptors: good}}}}', tmp_path)
    loaded = load_configured(config)

    assert "good.Good" in loaded[str(tmp_path / "good")].services
    assert [] == warnings_about(config, loaded)


def test_descriptors_of_defaults_need_not_describe_everything(tmp_path: Path) -> None:
    """They are a place to look in."""
    text = """
defaults: {descriptors: good}
services:
  good.Good: {target: "http://h", payload: json}
  a.A: {target: "http://h"}
"""
    config = configured(text, tmp_path)

    assert [] == warnings_about(config, load_configured(config))


def test_a_broken_folder_that_nothing_is_routed_to_does_no_harm(tmp_path: Path) -> None:
    """Its files are not compiled."""
    (tmp_path / "bad" / "good.proto").write_text(GOOD)
    text = 'services: {good.Good: {target: "http://h", payload: json, descriptors: bad}}'

    loaded = load_configured(configured(text, tmp_path))

    assert {"good.Good", "good.Better"} == set(loaded[str(tmp_path / "bad")].services)

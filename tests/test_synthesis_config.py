"""The section of synthesis: its rules, and the config that explains it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from secondstage.config import SynthesizeConfig
from secondstage.configfile import load_config

PATH = Path(__file__).parents[1] / "configs" / "synthetic.yaml"
ENDPOINT = {"url": "http://127.0.0.1/v1/chat/completions"}


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"generator": "local"}, "needs model"),
        ({"generator": "endpoint", "model": "m"}, "needs endpoint"),
        ({"generator": "title", "model": "m"}, "needs neither"),
        ({"kinds": ()}, "at least one kind"),
        ({"prompt": "passage"}, "local models trained on passages, not for title"),
        ({"generator": "endpoint", "endpoint": ENDPOINT, "prompt": "passage"}, "not for endpoint"),
        ({"generator": "local", "model": "m", "prompt": "passage", "temperature": 0.0}, "set per_document to 1"),
    ],
)
def test_what_makes_no_sense_is_refused(settings: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValidationError, match=fault):
        SynthesizeConfig(**settings)


def test_what_makes_sense_is_not() -> None:
    SynthesizeConfig(generator="local", model="m", prompt="passage", temperature=0.0, per_document=1)
    SynthesizeConfig(generator="local", model="m", temperature=0.0)


def test_the_config_explains_every_key_and_shows_its_default() -> None:
    text = PATH.read_text(encoding="utf-8")
    shown = yaml.safe_load(text)["mine"]["synthesize"]
    assert list(shown) == sorted(SynthesizeConfig.model_fields, key=list(shown).index)
    assert set(shown) == set(SynthesizeConfig.model_fields)
    assert load_config(PATH).mine.synthesize == SynthesizeConfig()
    lines = text.partition("\n  synthesize:\n")[2].partition("\ntrain:\n")[0].splitlines()
    for key in shown:
        (row,) = (i for i, line in enumerate(lines) if line.startswith(f"    {key}:"))
        assert re.match(r"    # ", lines[row - 1]), f"{key} is not explained"


def test_the_other_generators_are_an_override_away() -> None:
    local = load_config(PATH, ["mine.synthesize.generator=local", "mine.synthesize.model=m"]).mine.synthesize
    assert local == SynthesizeConfig(generator="local", model="m")
    overrides = ["mine.synthesize.generator=endpoint", f"mine.synthesize.endpoint={ENDPOINT}"]
    endpoint = load_config(PATH, overrides).mine.synthesize
    assert endpoint is not None
    assert endpoint.endpoint is not None
    assert endpoint.endpoint.url == ENDPOINT["url"]

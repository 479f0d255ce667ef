"""Any layer written as a file is read back as it was, and the schema takes it too."""

from __future__ import annotations

import jsonschema
from hypothesis import given
from hypothesis import strategies as st

from services import adaptive, limits
from services.impossible import ImpossibleError
from services.layer import Setting, plain
from services.limits import BOUNDS, LIMITS
from services.rules import form, schema, text
from services.rules.form import Aim, RulesFile
from services.rules.reading import read

VALIDATOR = jsonschema.Draft202012Validator(schema.schema())
WORDS = st.text(
    st.characters(codec="ascii", categories=["L", "N"], include_characters="-_"), min_size=1, max_size=20
)  # fmt: skip
AIMS = st.one_of(
    st.just(Aim("organisation")), st.builds(Aim, st.just("programme"), WORDS), st.builds(Aim, st.just("patient"), WORDS)
)


def possible(rule: str, setting: Setting) -> bool:
    try:
        limits.checked({rule: plain({rule: setting})[rule]})
    except ImpossibleError:
        return False
    return True


@st.composite
def settings_of(draw: st.DrawFn, rule: str) -> Setting:
    bounds, down = BOUNDS[rule], LIMITS[rule].side == "below"
    levels = sorted((draw(st.decimals(*span, places=1)) for span in bounds.levels), reverse=down)
    persist = draw(st.none() | st.integers(int(bounds.persist_s[0]), int(bounds.persist_s[1])))
    said = tuple(map(float, levels)) if persist is None or draw(st.booleans()) else ()
    return Setting(said, persist)


def checked(rule: str) -> st.SearchStrategy[Setting]:
    return settings_of(rule).filter(lambda setting: possible(rule, setting))


DRIFTS = {
    rule: st.builds(Setting, bound=st.decimals(*span, places=2).map(float))
    for rule, span in adaptive.DRIFT_BOUNDS.items()
}
BUDGET = st.builds(Setting, alert_budget=st.sampled_from(adaptive.BUDGETS))
LAYERS = st.fixed_dictionaries(
    {}, optional={rule: checked(rule) for rule in BOUNDS} | DRIFTS | {adaptive.TOGETHER: BUDGET}
)


@given(AIMS, st.integers(1, 10_000), LAYERS)
def test_a_layer_comes_back_as_it_was(aim: Aim, version: int, rules: dict[str, Setting]) -> None:
    file = RulesFile(aim, version, rules)
    said = form.written(file)
    assert read(said) == file
    assert not list(VALIDATOR.iter_errors(text.parse(said).said))

"""Sentences about a fast gain of weight: from which weight of which day to which, and how it was seen twice."""

from __future__ import annotations

from detectors.wording import Told, Voice, day_of


def weight_gain(evidence: Told, voice: Voice) -> str:
    """Return what a fast gain, or its end, says, e.g.

    >>> told = {"value": 82.5, "base": 80.1, "gain": 2.4, "day": 20_518, "from_day": 20_515, "threshold": 2.0,
    ...         "within_days": 3, "same_weighing": False, "jump": False}
    >>> weight_gain(told, ("", "", ""))
    'weight rose by 2.4 kg, from 80.1 kg on 3 Mar to 82.5 kg on 6 Mar: more than 2 kg in 3 days, seen on two days'
    """
    name = f"{voice[1]}weight"
    value, base, day = kilograms(evidence["value"]), kilograms(evidence["base"]), day_of(evidence["day"])
    if evidence.get("change") == "cleared":
        if evidence["near"]:
            near = f"in two weighings in a row no more than {kilograms(evidence['ends_above'])} kg above the {base} kg"
            return f"{name} was {value} kg on {day}, {near} from which it had risen"
        return (
            f"{name} was {value} kg on {day} and has not risen further in the last {evidence['calm']} weighings; it "
            f"had risen from {base} kg"
        )
    how = "rose further, by" if evidence.get("change") == "worsened" else "rose by"
    rose = f"{name} {how} {kilograms(evidence['gain'])} kg, from {base} kg on {day_of(evidence['from_day'])} to "
    twice = "in two readings of one weighing" if evidence["same_weighing"] else "on two days"
    bound = f"more than {kilograms(evidence['threshold'])} kg in {evidence['within_days']} days, seen {twice}"
    doubt = "; so large a jump may also be another person or another scale" if evidence["jump"] else ""
    return f"{rose}{value} kg on {day}: {bound}{doubt}"


def kilograms(value: float) -> str:
    """Return a weight with the decimals it has, two at the most.

    >>> kilograms(80.0), kilograms(80.15), kilograms(2.4)
    ('80', '80.15', '2.4')
    """
    return f"{value:.2f}".rstrip("0").rstrip(".")

"""Which kind a column is: inferred from what its cells say, with what is doubtful about it said."""

from __future__ import annotations

from typing import Any

from models.signature import FeatureKind
from models.sources.cells import DATES
from models.sources.profile import MAX_CATEGORIES, MAX_VALUES, ColumnProfile, Decimal
from models.sources.tallies import ColumnTally, Moments

MIXED_SHARE = 0.8
"""Numbers among the values from which on the others look like mistakes."""
MIXED_DISTINCT = 20
"""Values up to which a column with numbers among them is one of categories, as 0, 1, 2, 3+ is."""
TEXT_WORDS = 3.0
"""Words a value from which on it is text."""
TEXT_DISTINCT = 50
IDENTIFIER_ROWS = 20
"""Rows from which on a column of which no two values are equal looks like an identifier."""


def profile_of(tally: ColumnTally) -> ColumnProfile:
    """The profile of a column, from the counts over all of its rows."""
    kind, decimal, date_form = infer_kind(tally)
    unfit, cure = _unfitness(tally, kind)
    moments = tally.comma_moments if decimal == "," else tally.moments
    return ColumnProfile(
        name=tally.name,
        kind=kind,
        possible=_possible(tally, kind),
        missing=tally.missing,
        distinct=len(tally.values),
        distinct_is_exact=tally.distinct_is_exact,
        values=_values(tally, kind),
        figures=_figures(moments) if kind == "numeric" else {},
        infinite=tally.infinite,
        whole_numbers=kind == "numeric" and decimal == "." and tally.whole,
        identifier=_is_identifier(tally, kind),
        decimal=decimal,
        date_form=date_form,
        unfit=unfit,
        cure=cure,
        remarks=tuple(_remarks(tally, kind, decimal, date_form)),
    )


def _values(tally: ColumnTally, kind: FeatureKind | None) -> tuple[tuple[str, int], ...]:
    """The most frequent values. Fractions are no labels, and nobody asks for their counts."""
    if not tally.distinct_is_exact or (kind == "numeric" and not tally.whole):
        return ()
    return tuple(tally.values.most_common(MAX_VALUES))


def infer_kind(tally: ColumnTally) -> tuple[FeatureKind | None, Decimal, str]:
    """The kind of a column, its decimal sign, and the form of its dates; None where it is of mixed kinds or empty."""
    present, distinct = tally.present, len(tally.values)
    if present == 0:
        return None, ".", ""
    if tally.truths == present:
        return "boolean", ".", ""
    if tally.numbers == present and not tally.leading_zeros:
        return "numeric", ".", ""
    if tally.comma_numbers == present and not tally.leading_zeros:
        return "numeric", ",", ""
    if form := date_form_of(tally):
        return "date", ".", form
    if tally.numbers >= MIXED_SHARE * present and not tally.leading_zeros and distinct > MIXED_DISTINCT:
        return None, ".", ""
    if tally.words / present >= TEXT_WORDS and distinct > TEXT_DISTINCT:
        return "text", ".", ""
    return "categorical", ".", ""


def date_form_of(tally: ColumnTally) -> str:
    """The one form that every value has; "" where there is none, or where day and month cannot be told apart."""
    if tally.dates["typed"] == tally.present:
        return "typed"
    forms = [form for form in DATES if tally.dates[form] == tally.present]
    return forms[0] if len(forms) == 1 else ""


def _possible(tally: ColumnTally, kind: FeatureKind | None) -> tuple[FeatureKind, ...]:
    if tally.present == 0:
        return ()
    numeric = tally.numbers > 0 or tally.comma_numbers > 0
    found: list[FeatureKind] = [kind] if kind else []
    if numeric:
        found.append("numeric")
    if kind == "boolean":
        found.append("numeric")
    if _is_two_valued(tally):
        found.append("boolean")
    if not tally.dates["typed"]:
        found.append("categorical")
    if not numeric or kind is None:
        found.append("text")
    return tuple(dict.fromkeys(found))


def _is_two_valued(tally: ColumnTally) -> bool:
    words = {value.lower() for value in tally.values}
    return bool(words) and any(words <= set(pair) for pair in (("true", "false"), ("yes", "no"), ("0", "1")))


def _is_identifier(tally: ColumnTally, kind: FeatureKind | None) -> bool:
    """Whether no two values are equal (or no two of those that were counted), and none of them measures anything."""
    rows = tally.counted_rows
    if rows < IDENTIFIER_ROWS:
        return False
    if kind == "categorical":
        return len(tally.values) == rows or len(tally.values) > MAX_CATEGORIES
    return kind == "numeric" and tally.rising_by_one


def _unfitness(tally: ColumnTally, kind: FeatureKind | None) -> tuple[str, str]:
    """What is wrong with a column that is of no kind, and the cure; both empty for others."""
    if tally.present == 0:
        return "no value at all: every row is missing", f'leave it out: "features": {{"{tally.name}": "ignore"}}'
    if kind is None:
        others = ", ".join(f"{value[:40]!r} in row {row}" for row, value in tally.strangers)
        return (
            f"{tally.numbers:,} numbers and {tally.present - tally.numbers:,} other values ({others})",
            f'correct them, or say how to read it: "features": {{"{tally.name}": "numeric"}} takes what is no number '
            'as missing; "categorical", "text" and "ignore" can be said, too',
        )
    return "", ""


def _figures(moments: Moments) -> dict[str, Any]:
    if moments.count == 0:
        return {}
    deviation = (moments.squares / moments.count) ** 0.5
    return {"min": moments.low, "max": moments.high, "mean": moments.mean, "deviation": deviation}


def _remarks(tally: ColumnTally, kind: FeatureKind | None, decimal: Decimal, date_form: str) -> list[str]:
    remarks = []
    if _is_identifier(tally, kind):
        what = (
            "a running number" if kind == "numeric" else f"{len(tally.values):,} values in {tally.counted_rows:,} rows"
        )
        remarks.append(f"looks like an identifier ({what}): a network can only learn it by heart")
    if tally.present and tally.distinct_is_exact and len(tally.values) == 1:
        remarks.append("has one value in every row that has one: nothing can be learned from it")
    if decimal == ",":
        remarks.append("is written with a decimal comma")
    if kind == "date" and date_form not in ("typed", "year-month-day"):
        remarks.append(f"is read as dates of the form {date_form}")
    if kind != "date" and sum(tally.dates[form] == tally.present > 0 for form in DATES) > 1:
        remarks.append(
            "may hold dates whose day and month cannot be told apart: write year-month-day to have them as dates"
        )
    if tally.infinite:
        remarks.append(f"has {tally.infinite:,} infinite values")
    if tally.leading_zeros and tally.numbers == tally.present:
        remarks.append("has numbers with leading zeros: read as codes")
    return remarks

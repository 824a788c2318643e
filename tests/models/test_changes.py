"""What changes from a champion to new data is said, and what would break its clients is refused."""

from dataclasses import replace

import pytest

from models.changes import changes_between, refuse_breaking
from models.errors import InvalidSpec
from models.signature import Feature, Signature

AGE, DOSE = Feature("age", "numeric", (), (20.0, 60.0)), Feature("dose", "numeric", (), (0.0, 8.0))
CHAMPION = Signature((AGE, DOSE), "classification", "outcome", ("no", "yes"))


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (CHAMPION, []),
        (replace(CHAMPION, target="result"), [("target", "outcome", "result", True)]),
        (replace(CHAMPION, labels=("no", "yes", "maybe")), [("labels", "no, yes", "no, yes, maybe", True)]),
        (replace(CHAMPION, features=(AGE,)), [("feature dose", "numeric", "not there", True)]),
        (replace(CHAMPION, features=(AGE,), ignored=("dose",)), [("feature dose", "numeric", "ignored", False)]),
        (
            replace(CHAMPION, features=(AGE, DOSE, Feature("bmi", "numeric", (), (18.0, 40.0)))),
            [("feature bmi", "not there", "numeric", True)],
        ),
        (replace(CHAMPION, features=(DOSE, AGE)), [("order of the features", "age, dose", "dose, age", True)]),
        (
            replace(CHAMPION, features=(replace(AGE, value_range=(20.0, 70.0)), DOSE)),
            [("range of feature age", "20 to 60", "20 to 70", False)],
        ),
    ],
)
def test_each_difference_is_told_with_whether_it_breaks_clients(
    now: Signature, expected: list[tuple[str, str, str, bool]]
) -> None:
    changes = changes_between(CHAMPION, now)

    assert expected == [(change.what, change.was, change.now, change.breaks) for change in changes]


def test_scale_of_an_image_is_part_of_its_contract() -> None:
    image = Feature("image", "image", (8, 8, 1), (0.0, 16.0))
    was = Signature((image,), "classification", "digit", ("0", "1"))
    now = replace(was, features=(replace(image, shape=(9, 8, 1), value_range=(0.0, 255.0)),))

    changes = changes_between(was, now)

    assert [("shape of feature image", True), ("range of feature image", True)] == [
        (change.what, change.breaks) for change in changes
    ]


def test_only_what_breaks_is_refused_with_the_way_out() -> None:
    harmless = changes_between(CHAMPION, replace(CHAMPION, features=(AGE,), ignored=("dose",)))
    breaking = changes_between(CHAMPION, replace(CHAMPION, features=(AGE,)))

    refuse_breaking(harmless, 3)
    with pytest.raises(InvalidSpec) as refused:
        refuse_breaking(breaking, 3)

    (fault,) = refused.value.faults
    assert ("#/signature", "feature dose: was numeric, is not there") == (fault.pointer, fault.received)
    assert '"signature": "may-change"' in fault.detail

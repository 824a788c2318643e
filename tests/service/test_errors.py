"""Every error has its HTTP status, in one table."""

from __future__ import annotations

import inspect
from types import ModuleType

import pytest

from explain import errors as explanation_errors
from models import errors as model_errors
from service import errors as service_errors
from service.problems import STATUSES

NOT_SENT_OVER_HTTP = {
    model_errors.VitrineError,
    explanation_errors.ExplanationError,
    model_errors.InvalidDataset,
    model_errors.NotDifferentiableHere,
    model_errors.SearchWithoutResult,
    model_errors.TrackingNotUsable,
}


@pytest.mark.parametrize("module", [explanation_errors, model_errors, service_errors])
def test_every_error_class_is_in_the_table(module: ModuleType) -> None:
    classes = {
        member
        for name, member in inspect.getmembers(module, inspect.isclass)
        if issubclass(member, Exception) and member.__module__ == module.__name__ and not name.startswith("_")
    }

    assert set() == classes - STATUSES.keys() - NOT_SENT_OVER_HTTP

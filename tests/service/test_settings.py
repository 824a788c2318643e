"""Settings come from the environment, and every fault is said at once."""

from __future__ import annotations

import pytest

from service.settings import Settings, SettingsError, read_settings


def test_every_fault_is_named_at_once() -> None:
    environment = {"VITRINE_PORT": "eighty", "VITRINE_TRAINERS": "0", "VITRINE_PRT": "1", "OTHER": "x"}

    with pytest.raises(SettingsError) as caught:
        read_settings(environment)

    assert all(name in str(caught.value) for name in ("VITRINE_PORT", "VITRINE_TRAINERS", "VITRINE_PRT: unknown"))


def test_command_line_options_win_over_the_environment() -> None:
    settings = read_settings({"VITRINE_PORT": "8001", "VITRINE_HOST": "::1"}, port=9000, host=None)

    assert (settings.port, settings.host) == (9000, "::1")


def test_a_child_process_gets_the_same_settings(tmp_path) -> None:
    settings = Settings(home=tmp_path, port=8123, required_models=("a", "b"))

    assert settings == read_settings(settings.to_environment())

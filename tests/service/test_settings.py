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
    settings = Settings(home=tmp_path, port=8123, preload=("a", "b@2"))

    assert settings == read_settings(settings.to_environment())


def test_grpc_is_served_where_a_port_is_given() -> None:
    assert read_settings({}).grpc_port is None
    assert read_settings({"VITRINE_GRPC_PORT": "8001"}).grpc_port == 8001
    assert read_settings({"VITRINE_GRPC_PORT": "off"}).grpc_port is None
    assert read_settings({"VITRINE_GRPC_PORT": "off"}, grpc_port=8002).grpc_port == 8002
    with pytest.raises(SettingsError, match=r"VITRINE_GRPC_PORT: .*Received: '65536'"):
        read_settings({"VITRINE_GRPC_PORT": "65536"})


def test_an_unknown_setting_names_the_nearest_one() -> None:
    with pytest.raises(SettingsError, match="VITRINE_TRAINER: unknown setting; did you mean VITRINE_TRAINERS"):
        read_settings({"VITRINE_TRAINER": "2"})


def test_a_password_in_a_database_url_is_shown_nowhere() -> None:
    good = "postgresql+psycopg://vitrine:hunter2@db/vitrine"

    with pytest.raises(SettingsError) as caught:
        read_settings({"VITRINE_DATABASE_URL": "mysql://vitrine:hunter2@db/vitrine"})

    assert "mysql://vitrine:***@db/vitrine" in str(caught.value)
    assert "expected sqlite:///FILE or postgresql://" in str(caught.value)
    assert "hunter2" not in repr(read_settings({"VITRINE_DATABASE_URL": good}))


@pytest.mark.parametrize(
    ("variables", "url"),
    [
        ({}, "http://127.0.0.1:8000"),
        ({"VITRINE_HOST": "0.0.0.0", "VITRINE_PORT": "81"}, "http://127.0.0.1:81"),
        ({"VITRINE_HOST": "::"}, "http://[::1]:8000"),
        ({"VITRINE_URL": "https://vitrine.example/"}, "https://vitrine.example"),
    ],
)
def test_the_command_line_finds_the_server(variables: dict[str, str], url: str) -> None:
    assert url == read_settings(variables).server_url

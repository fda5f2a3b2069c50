"""A misspelt setting is refused at the start, and what others set for purposes of their own is not."""

import os

import pytest

from deploy.local.services import read_settings
from services.enrollment.main import SERVICE as ENROLLMENT
from services.notifications.main import SERVICE as NOTIFICATIONS
from shared.chassis.service import load
from shared.chassis.settings import unknown


@pytest.mark.parametrize(
    ("variable", "nearest"),
    [
        ("ENROLLMENT_MAX_BACH", "ENROLLMENT_MAX_BATCH"),
        ("ENROLLMENT_PSEUDONYMKEY", "ENROLLMENT_PSEUDONYM_KEY"),
        ("ENROLLMENT_HTP_PORT", "ENROLLMENT_HTTP_PORT"),
        ("enrollment_takeover", "ENROLLMENT_TAKEOVER_S"),
    ],
)
def test_a_misspelt_setting_is_refused_by_its_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variable: str, nearest: str
) -> None:
    for name in [name for name in os.environ if name.startswith("ENROLLMENT_")]:
        monkeypatch.delenv(name)
    told = {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1", "DATABASE_URL": "postgresql://nowhere", "HTTP_PORT": "1", "PSEUDONYM_KEY": "00" * 32}
    for name, value in told.items():
        monkeypatch.setenv(f"ENROLLMENT_{name}", value)
    load(ENROLLMENT.settings, "enrollment")  # without the mistake it starts
    monkeypatch.setenv(variable, "7")
    with pytest.raises(SystemExit) as ended:
        load(ENROLLMENT.settings, "enrollment")
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"{variable} is no setting of enrollment; did you mean {nearest}?\n"


def test_what_others_set_under_the_same_prefix_is_left_alone() -> None:
    kubernetes = {
        "ENROLLMENT_SERVICE_HOST": "10.0.0.7",
        "ENROLLMENT_SERVICE_PORT": "80",
        "ENROLLMENT_SERVICE_PORT_HTTP": "80",
        "ENROLLMENT_PORT": "tcp://10.0.0.7:80",
        "ENROLLMENT_PORT_80_TCP": "tcp://10.0.0.7:80",
        "ENROLLMENT_PORT_80_TCP_ADDR": "10.0.0.7",
        "ENROLLMENT_API_SERVICE_HOST": "10.0.0.8",
        "ENROLLMENT_API_PORT": "tcp://10.0.0.8:80",
        "ENROLLMENT_API_PORT_80_TCP_PROTO": "tcp",
    }
    assert unknown(ENROLLMENT.settings, kubernetes | {"ENROLLMENT_PASSWORD": "of the role", "REPORTING_ANYTHING": "1", "PATH": "/bin"}) == {}
    assert unknown(ENROLLMENT.settings, {"ENROLLMENT_PORT": "8080"}) == {"ENROLLMENT_PORT": "ENROLLMENT_HTTP_PORT"}


def test_the_settings_file_of_the_stack_has_none() -> None:
    assert unknown(ENROLLMENT.settings, read_settings()) == unknown(NOTIFICATIONS.settings, read_settings()) == {}

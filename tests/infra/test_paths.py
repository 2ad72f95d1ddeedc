from pathlib import Path

import pytest

from ops.paths import printable, user_path


def test_a_tilde_is_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert user_path("~/pictures") == Path("/home/me/pictures")
    assert user_path("~") == Path("/home/me")
    assert user_path("a/~/b") == Path("a/~/b")


def test_a_tilde_of_an_unknown_user_is_unchanged() -> None:
    assert user_path("~no-such-user/x") == Path("~no-such-user/x")


def test_unprintable_characters_are_escaped() -> None:
    assert printable(Path("grüne [Äpfel]/1.png")) == "grüne [Äpfel]/1.png"
    assert printable(Path("caf\udce9\x1b[31m\n")) == r"caf\xe9\x1b[31m\n"

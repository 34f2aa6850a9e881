from __future__ import annotations

import pytest

from yolopose.base.addresses import address_name, hide_secrets, recorded_address, show_address
from yolopose.base.errors import DataError


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("https://user:secret@h.x:81/a/b.pt", "https://***@h.x:81/…/b.pt"),
        ("https://h/dir/w.pt?sig=secret", "https://h/…/w.pt?***"),
        ("rtsp://admin:sec/ret@10.0.0.1:554/1", "rtsp://***@10.0.0.1:554/…"),
        ("rtsp://admin:p@secret@cam/1", "rtsp://***@cam/…"),
        ("rtmp://live.tv/app/secret", "rtmp://live.tv/…"),
        ("srt://h:9000?passphrase=secret", "srt://h:9000?***"),
        ("HTTPS:\\\\u:secret@h\\x.pt", "HTTPS://***@h/x.pt"),
        ("https:/u:secret@h/x.pt", "https://***@h/x.pt"),
        ("rtmp:/h/live/secret", "rtmp://h/…"),
        ("https:/h/x.pt?token=secret", "https://h/x.pt?***"),
        ("https:u:secret@h.x/x.pt", "https://***@h.x/x.pt"),
        ("u:secret@h.example.com/x", "***@h.example.com/x"),
        ("http://u:secret@[::1/x", "http://***@***/…"),
        ("https://github.com/a/b/x.zip", "https://github.com/a/b/x.zip"),
        ("https://github.com/a/b/x.zip?token=secret", "https://github.com/…/x.zip?***"),
        ("https://h/secret/x.zip", "https://h/…/x.zip"),
        ("https://h/0123456789abcdef0123", "https://h/…"),
    ],
)
def test_shows_no_secret(address: str, shown: str) -> None:
    assert show_address(address) == shown
    assert "secret" not in str(DataError(f"See ({address}), or '{address}'."))
    assert "secret" not in recorded_address(address)


@pytest.mark.parametrize("text", ["data.yaml: `x: 1:2`", "a@b.c", "C:\\Users\\x", "12:30", "file:///a/b", "no address"])
def test_keeps_other_texts(text: str) -> None:
    assert hide_secrets(text) == text


def test_records_tell_addresses_apart() -> None:
    records = {recorded_address(f"https://h/w.pt?version={number}") for number in range(3)}
    assert len(records) == 3


@pytest.mark.parametrize(
    ("address", "name"),
    [("https://h/a/w%20x.pt?y", "w x.pt"), ("https://h/token", ""), ("rtsp://h/a.jpg", ""), ("https://h", "")],
)
def test_names_of_addresses(address: str, name: str) -> None:
    assert address_name(address) == name

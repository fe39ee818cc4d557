"""Downloads from a real server that drops, stalls, truncates, lies and forgets."""

import hashlib
import json

import pytest

from seedfold.data_pipeline.errors import InputError
from seedfold.weights.download import Check, Patience, download, mirrored, sha256_of

BODY = b"PK\x03\x04" + bytes(range(256)) * 800
QUICK = Patience(tries=3, silence=0.4, pause=0.01)


@pytest.fixture
def target(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    return tmp_path / "store" / "model"


def get(server, target, check=None, **options):
    return download(server.address + "/a/model.pt", target, check, patience=QUICK, **options)


def left(target):
    return sorted(p.name for p in target.parent.iterdir()) if target.parent.exists() else []


def test_a_file_comes_whole_and_is_checked(web, target):
    seen = []
    check = Check(size=len(BODY), sha256=hashlib.sha256(BODY).hexdigest(), magic=b"PK")
    with web.serving(BODY) as server:
        get(server, target, check, progress=lambda done, total: seen.append((done, total)))
    assert target.read_bytes() == BODY and left(target) == ["model"]
    assert seen[-1] == (len(BODY), len(BODY)) and server.ranges == [None]
    assert sha256_of(target) == check.sha256


def test_drops_are_resumed_where_they_happened(web, target):
    with web.serving(BODY, "drop 1000", "503", "drop 5000", "serve") as server:
        get(server, target)
    assert target.read_bytes() == BODY
    assert server.ranges == [None, "bytes=1000-", "bytes=1000-", "bytes=6000-"]


def test_silence_ends_a_connection_and_the_rest_is_fetched(web, target):
    with web.serving(BODY, "stall 3000", "serve") as server:
        get(server, target)
    assert target.read_bytes() == BODY and server.ranges == [None, "bytes=3000-"]


def test_a_server_without_ranges_is_started_over(web, target):
    with web.serving(BODY, "drop 1000", "whole") as server:
        get(server, target)
    assert target.read_bytes() == BODY and server.ranges == [None, "bytes=1000-"]


def test_a_later_call_goes_on(web, target):
    with web.serving(BODY, "drop 7000", "stall 0") as server:
        with pytest.raises(InputError, match=r"stays silent.*MB are kept; call again"):
            get(server, target)
        assert left(target) == ["model.part", "model.part.json"]
        server.plan, server.ranges = ["serve"], []
        get(server, target)
    assert server.ranges == ["bytes=7000-"] and target.read_bytes() == BODY
    assert left(target) == ["model"]


def test_a_file_that_changed_meanwhile_is_not_patched_together(web, target):
    with web.serving(BODY, "drop 7000", "404") as server:
        with pytest.raises(InputError, match="404"):
            get(server, target)
        server.plan, server.body, server.etag = ["serve"], BODY[::-1], '"second"'
        get(server, target)
    assert target.read_bytes() == BODY[::-1]


def test_a_shrunken_file_is_started_over(web, target):
    with web.serving(BODY, "drop 7000", "404") as server:
        with pytest.raises(InputError, match="404"):
            get(server, target)
        server.plan, server.body = ["serve"], BODY[:500]
        get(server, target)
    assert target.read_bytes() == BODY[:500]


def test_a_server_that_always_truncates_is_given_up(web, target):
    with (
        web.serving(BODY, "whole 1000") as server,
        pytest.raises(InputError, match=f"ended after 1000 of {len(BODY)} bytes.*kept"),
    ):
        get(server, target)
    assert len(server.ranges) == 1 + QUICK.tries and not target.exists()


@pytest.mark.parametrize(
    ("plan", "check", "message"),
    [
        ("page", Check(), "a web page, no file"),
        ("serve", Check(size=3), f"{len(BODY)} bytes; expected 3 bytes"),
        ("serve", Check(sha256="0" * 64), "sha256 [0-9a-f]{64}; expected 0000.*discarded"),
        ("serve", Check(magic=b"GIF"), "a file of another kind"),
        ("404", Check(), "the server answered 404"),
        ("403", Check(), "the server answered 403"),
    ],
)
def test_a_wrong_file_is_refused_at_once(web, target, plan, check, message):
    with web.serving(BODY, plan) as server, pytest.raises(InputError, match=message):
        get(server, target, check)
    assert len(server.ranges) == 1
    assert "model" not in left(target) and "model.part" not in left(target)


def test_another_part_than_asked_for_is_refused(web, target):
    with (
        web.serving(BODY, "drop 7000", "wrong part") as server,
        pytest.raises(InputError, match="another part of the file"),
    ):
        get(server, target)
    assert (target.parent / "model.part").stat().st_size == 7000


def test_nobody_there(target):
    with pytest.raises(InputError, match="cannot be reached"):
        download("http://127.0.0.1:9/x", target, patience=QUICK)
    with pytest.raises(InputError, match="cannot be reached"):
        download("http://nowhere.invalid/x", target, patience=Patience(pause=60.0))


def test_a_note_of_another_address_is_not_believed(web, target):
    target.parent.mkdir()
    (target.parent / "model.part").write_bytes(b"rubbish")
    note = {"url": "http://elsewhere/x", "total": len(BODY), "validator": ""}
    (target.parent / "model.part.json").write_text(json.dumps(note))
    with web.serving(BODY) as server:
        get(server, target)
    assert server.ranges == [None] and target.read_bytes() == BODY


def test_a_full_disk_is_named(web, target, monkeypatch):
    monkeypatch.setattr("seedfold.weights.download._save", lambda part, remote, offset: None)
    target.parent.mkdir()
    (target.parent / "model.part").symlink_to("/dev/full")
    with web.serving(BODY) as server, pytest.raises(InputError, match="No space left on device"):
        get(server, target)
    assert len(server.ranges) == 1 and not target.exists()


def test_mirrors(monkeypatch):
    url = "https://host.example/a/b.pt"
    monkeypatch.delenv("SEEDFOLD_MIRROR", raising=False)
    assert mirrored(url) == url
    monkeypatch.setenv("SEEDFOLD_MIRROR", "http://mirror.example:8080/weights/")
    assert mirrored(url) == "http://mirror.example:8080/weights/a/b.pt"
    monkeypatch.setenv("SEEDFOLD_MIRROR", "file:///etc")
    with pytest.raises(InputError, match=r"SEEDFOLD_MIRROR.*expected an address"):
        mirrored(url)

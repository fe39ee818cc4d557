"""Importing and fetching: what is stored, what is refused, and that the store stays whole."""

import errno
import hashlib
import json
import os
import pickle
import subprocess
import sys
import zipfile
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from seedfold.checkpoint import load_checkpoint, read_info
from seedfold.data_pipeline.errors import InputError
from seedfold.model.seedfold import SeedFold
from seedfold.weights import catalogue, store
from seedfold.weights.protenix import convert_protenix, protenix_config


def small_config(donor_state, small_json):
    return protenix_config(json.loads(small_json.read_text()), donor_state)


@pytest.fixture
def small_protenix(donor_state, small_json, monkeypatch):
    """A small network as if it were published: the catalogue and presets know `protenix-small`."""
    config = small_config(donor_state, small_json)
    monkeypatch.setitem(store.PRESETS, "protenix_small", lambda: config)
    model = replace(
        catalogue.KNOWN["protenix-v1"],
        name="protenix-small",
        preset="protenix_small",
        published_as="protenix_small",
        parameters=sum(t.numel() for t in donor_state.values()),
        url="http://host.invalid/checkpoint/protenix_small.pt",
    )
    monkeypatch.setitem(catalogue.KNOWN, model.name, model)
    return model


def files(folder):
    """Everything in the store but its locks."""
    return sorted(p.name for p in folder.iterdir() if not p.name.endswith(".lock"))


def snapshot(folder):
    return {name: (folder / name).read_bytes() for name in files(folder)}


def test_an_import_keeps_every_number_and_says_where_it_is_from(
    published, donor_state, small_json, store_home
):
    path = store.import_weights(published, "mine", like=str(small_json))
    assert path == store_home / "mine.safetensors" and store.installed() == ["mine"]
    config = small_config(donor_state, small_json)
    expected = convert_protenix(donor_state, SeedFold(config))
    network, info = load_checkpoint(path)
    assert info.config == config and info.licence == "Apache-2.0" and info.trained
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, expected[name]), name
    origin = store.provenance(path)
    assert origin is not None and (origin.donor, origin.key) == ("protenix", "model")
    assert origin.sha256 == hashlib.sha256(published.read_bytes()).hexdigest()
    assert "0.98M numbers, all finite; checksum right" in store.verify(path)
    notice = (store_home / "NOTICE").read_text()
    assert "Copyright 2024 ByteDance" in notice and f"mine: from {published.name}" in notice
    assert files(store_home) == ["NOTICE", "mine.safetensors"]


def test_half_precision_becomes_fp32(donor_state, small_json, store_home, tmp_path):
    half = {name: tensor.bfloat16() for name, tensor in donor_state.items()}
    edges = {n: donor_state[n] for n in half if n.endswith("_bins")}
    torch.save({"model": half | edges}, tmp_path / "half.pt")
    path = store.import_weights(tmp_path / "half.pt", "half", like=str(small_json))
    name = "trunk.layer_norm_s.weight"
    assert torch.equal(load_file(path)[name], half["layernorm_s.weight"].float())


def test_averaged_weights_come_first_and_flat_files_are_read(
    donor_state, small_json, store_home, tmp_path
):
    averaged = {name: tensor + 1 for name, tensor in donor_state.items() if "_bins" not in name}
    torch.save({"model": donor_state, "ema": averaged}, tmp_path / "both.pt")
    torch.save(donor_state, tmp_path / "flat.pt")
    key = "trunk.layer_norm_s.weight"
    both = store.import_weights(tmp_path / "both.pt", "both", like=str(small_json))
    flat = store.import_weights(tmp_path / "flat.pt", "flat", like=str(small_json))
    assert torch.equal(load_file(both)[key], donor_state["layernorm_s.weight"] + 1)
    assert torch.equal(load_file(flat)[key], donor_state["layernorm_s.weight"])


class Evil:
    def __reduce__(self):
        return os.system, ("touch EXECUTED",)


def test_nothing_in_a_file_is_run(published, small_json, store_home, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"model": Evil()}, tmp_path / "evil.pt")
    (tmp_path / "evil_old.pt").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(InputError, match=r"refused: asks to run code \(\w+\.system\)"):
        store.import_weights(tmp_path / "evil.pt", "evil", like=str(small_json))
    with pytest.raises(InputError, match="no checkpoint of PyTorch"):
        store.import_weights(tmp_path / "evil_old.pt", "evil", like=str(small_json))
    assert not (tmp_path / "EXECUTED").exists() and store.installed() == []
    torch.load(tmp_path / "evil.pt", weights_only=False)
    assert (tmp_path / "EXECUTED").exists()


def test_damaged_and_foreign_files_are_refused(published, small_json, store_home, tmp_path):
    store.import_weights(published, "mine", like=str(small_json))
    before = snapshot(store_home)
    whole = published.read_bytes()
    other = tmp_path / "other.zip"
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("readme", "no tensors")
    torch.save({"epoch": 3}, tmp_path / "empty.pt")
    cases = {
        "cut short: its end is missing": whole[: len(whole) // 2],
        "a web page": b"\n<!DOCTYPE html>",
        "no checkpoint of PyTorch": b"",
        "damaged or no checkpoint": other.read_bytes(),
        "no weights; it has 'epoch'": (tmp_path / "empty.pt").read_bytes(),
    }
    for message, content in cases.items():
        (tmp_path / "bad.pt").write_bytes(content)
        with pytest.raises(InputError, match=message):
            store.import_weights(tmp_path / "bad.pt", "mine", like=str(small_json))
    with pytest.raises(InputError, match="no such file"):
        store.import_weights(tmp_path / "absent.pt", "mine", like=str(small_json))
    assert snapshot(store_home) == before


def test_another_model_is_refused_by_name(
    published, donor_state, small_json, store_home, small_protenix, tmp_path
):
    with pytest.raises(InputError, match=r"not the weights of protenix-v1: .*that of protenix-sm"):
        store.import_weights(published, "protenix-v1")
    with pytest.raises(InputError, match="'protenix-v1' is the name of a published model"):
        store.import_weights(published, "protenix-v1", like=str(small_json))
    with pytest.raises(InputError, match=r"'mine' is not in the catalogue.*add --like"):
        store.import_weights(published, "mine")
    with pytest.raises(InputError, match="no configuration"):
        store.import_weights(published, "mine", like=str(tmp_path / "absent.json"))
    less = {k: v for k, v in donor_state.items() if k != "layernorm_s.bias"}
    torch.save({"model": less}, tmp_path / "less.pt")
    with pytest.raises(InputError, match=r"nothing fills 'trunk.layer_norm_s.bias'"):
        store.import_weights(tmp_path / "less.pt", "protenix-small")
    assert files(store_home) == []


def test_a_full_disk_leaves_the_store_as_it_was(published, small_json, store_home, monkeypatch):
    store.import_weights(published, "mine", like=str(small_json))
    before = snapshot(store_home)
    code = (
        "import resource, signal, sys\n"
        "from seedfold.weights import store\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))\n"
        "store.import_weights(store.Path(sys.argv[1]), 'mine', like=sys.argv[2])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(published), str(small_json)],
        capture_output=True,
        text=True,
    )
    assert "InputError" in done.stderr and "File too large" in done.stderr, done.stderr
    assert snapshot(store_home) == before

    def no_space(file):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("seedfold.weights.store.os.fsync", no_space)
    with pytest.raises(InputError, match=r"No space left on device.*as before; make room"):
        store.import_weights(published, "mine", like=str(small_json))
    monkeypatch.setattr(
        "seedfold.weights.store.shutil.disk_usage", lambda p: type("Usage", (), {"free": 1000})
    )
    with pytest.raises(InputError, match=r"0.0 GB free; expected"):
        store.import_weights(published, "mine", like=str(small_json))
    assert snapshot(store_home) == before


HOLDER = (
    "import sys, time\n"
    "from seedfold.weights import store\n"
    "with store.lock('mine'):\n"
    "    print('held', flush=True)\n"
    "    sys.stdin.read()\n"
)


@pytest.fixture
def holder(store_home):
    """Another process that writes the model `mine`."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_writer_is_told_who_writes(holder, published, small_json, store_home):
    with pytest.raises(InputError, match=rf"mine: is being written by process {holder.pid} on "):
        store.import_weights(published, "mine", like=str(small_json))
    assert files(store_home) == []
    store.import_weights(published, "other", like=str(small_json))
    said = []

    def let_go(message):
        said.append(message)
        holder.kill()

    with store.lock("mine", wait=True, say=let_go):
        assert f"waiting for process {holder.pid}" in said[0]


def test_a_killed_writer_is_no_obstacle(holder, published, small_json, store_home):
    holder.kill()
    holder.wait()
    assert f"process {holder.pid}" in (store_home / ".mine.lock").read_text()
    (store_home / f".{holder.pid}.mine.safetensors").write_bytes(b"half")
    (store_home / ".7.not.mine.safetensors").write_bytes(b"somebody writes it")
    store.import_weights(published, "mine", like=str(small_json))
    assert files(store_home) == [".7.not.mine.safetensors", "NOTICE", "mine.safetensors"]


def test_memory_of_an_import_is_below_one_and_a_half_files(store_home, tmp_path):
    """A large tensor that is no network still shows what reading and writing need."""
    code = (
        "import resource, torch\n"
        "from pathlib import Path\n"
        "from seedfold.checkpoint import CheckpointInfo\n"
        "from seedfold.model.presets import PRESETS\n"
        "from seedfold.weights import store\n"
        "info = CheckpointInfo(name='x', config=PRESETS['nano']())\n"
        "origin = store.Provenance(donor='protenix', file='f', sha256='')\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "source = store.read_donor(Path('big.pt'))\n"
        "store._write(Path('out.safetensors'), source.tensors, info, origin)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    tensors = {f"t{n}": torch.full((1 << 20,), float(n)) for n in range(30)}
    torch.save({"model": tensors}, tmp_path / "big.pt")
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    size = (tmp_path / "big.pt").stat().st_size
    assert 1024 * int(done.stdout) < 1.5 * size
    assert all(
        torch.equal(load_file(tmp_path / "out.safetensors")[k], t) for k, t in tensors.items()
    )


def test_verify_finds_a_changed_bit_and_a_number_that_is_none(published, small_json, store_home):
    path = store.import_weights(published, "mine", like=str(small_json))
    data = bytearray(path.read_bytes())
    data[-2] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"expected .* as when they were written"):
        store.verify(path)
    tensors = load_file(path)
    tensors["trunk.layer_norm_s.bias"][3] = float("nan")
    save_file(tensors, path, metadata=dict(store._metadata(path)))
    with pytest.raises(InputError, match=r"'trunk.layer_norm_s.bias' has values that are not"):
        store.verify(path)
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(ValueError, match="damaged"):
        store.verify(path)


def test_fetch_downloads_converts_and_cleans_up(
    web, published, store_home, small_protenix, monkeypatch
):
    monkeypatch.setattr("seedfold.weights.download.time.sleep", lambda seconds: None)
    body, said, seen = published.read_bytes(), [], []
    with web.serving(body, "drop 100000", "serve") as server:
        monkeypatch.setenv("SEEDFOLD_MIRROR", server.address)
        path = store.fetch("protenix-small", say=said.append, progress=lambda *at: seen.append(at))
        assert store.fetch("protenix-small") == path
    assert server.ranges == [None, "bytes=100000-"]
    assert server.paths[0] == "/checkpoint/protenix_small.pt"
    assert "Apache-2.0" in said[0] and "0.00 GB" in said[0] and server.address in said[0]
    assert seen[-1] == (len(body), len(body))
    origin = store.provenance(path)
    assert origin is not None and origin.url == server.address + "/checkpoint/protenix_small.pt"
    assert read_info(path).name == "protenix-small"
    assert files(store_home) == ["NOTICE", "protenix-small.safetensors"]


def test_fetching_a_wrong_file_leaves_nothing(
    web, store_home, small_protenix, tmp_path, monkeypatch
):
    torch.save({"model": {"other.weight": torch.ones(3)}}, tmp_path / "other.pt")
    with web.serving((tmp_path / "other.pt").read_bytes()) as server:
        monkeypatch.setenv("SEEDFOLD_MIRROR", server.address)
        with pytest.raises(InputError, match="not the weights of protenix-small"):
            store.fetch("protenix-small")
        server.plan = ["page"]
        with pytest.raises(InputError, match=r"a web page, no file.*curl -L .*weights import"):
            store.fetch("protenix-small")
    assert files(store_home) == []


def test_offline_says_how_to_bring_the_file(store_home, monkeypatch):
    url = "https://protenix.tos-cn-beijing.volces.com/checkpoint/protenix-v2.pt"
    commands = (
        f"curl -L -C - -o protenix-v2.pt {url} ; "
        "then here: seedfold weights import protenix-v2.pt --as protenix-v2"
    )
    with pytest.raises(InputError) as error:
        store.fetch("protenix-v2", offline=True)
    assert commands in str(error.value)
    monkeypatch.setenv("SEEDFOLD_OFFLINE", "1")
    with pytest.raises(InputError) as error:
        store.fetch("protenix-v2")
    assert commands in str(error.value) and not store_home.exists()


def test_models_without_an_address_are_import_only(store_home, small_protenix, monkeypatch):
    monkeypatch.setitem(catalogue.KNOWN, "protenix-small", replace(small_protenix, url=None))
    with pytest.raises(
        InputError, match=r"no address.*seedfold weights import FILE --as protenix-"
    ):
        store.fetch("protenix-small")

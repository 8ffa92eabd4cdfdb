"""What lies in a record's folder may be a stranger's: symbolic links are neither shown nor sent anywhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from bench.leaderboard.page import write_html
from bench.leaderboard.summary import load_records, summarise
from bench.records.record import Record
from bench.records.store import Store, write_record
from bench.tracking.experiment import Experiment


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """One record, with a table and a picture of its own, and links to others outside the store."""
    secret = tmp_path / "secret"
    secret.mkdir()
    Image.new("RGB", (4, 3), "red").save(secret / "passport.png")
    (secret / "passport.csv").write_text("name,secret\nconv1,1234\n")
    store = Store(tmp_path / "runs")
    record = Record(
        fingerprint="a1", status="ok", method="kse", setting="kse(G=4)", model="resnet20", dataset="ramps",
        weights="shipped", seed=0, budget_epochs=1.0, device="cpu", top1=0.9, compression_ratio=2.0,
        started_at="2026-01-01T00:00:00+00:00",
    )  # fmt: skip
    with store.prepare("a1") as folder:
        write_record(record, folder)
        Image.new("RGB", (4, 3), "teal").save(folder / "own.png")
        (folder / "linked.png").symlink_to(secret / "passport.png")
        (folder / "layers.csv").symlink_to(secret / "passport.csv")
    return store


def test_a_page_shows_no_linked_picture_and_no_linked_table(store: Store, tmp_path: Path) -> None:
    write_html(load_records(store.root), tmp_path / "site", store.root)
    pictures = sorted(path.name for path in (tmp_path / "site").rglob("*.png"))
    assert pictures == ["own.png"]
    (page,) = (tmp_path / "site" / "settings").glob("*.html")
    text = page.read_text(encoding="utf-8")
    assert "own.png" in text and "linked" not in text and "1234" not in text
    assert ">Layers</h2>" not in text

    layers = store.folder("a1") / "layers.csv"
    content = layers.read_text()
    layers.unlink()
    layers.write_text(content)
    write_html(load_records(store.root), tmp_path / "site", store.root)
    assert "1234" in page.read_text(encoding="utf-8"), "the table is never shown, so the test shows nothing"


def test_no_linked_file_is_logged(store: Store) -> None:
    class Client:
        def __init__(self) -> None:
            self.logged: list[str] = []

        def log_artifact(self, run_id: str, path: str) -> None:
            self.logged.append(Path(path).name)

    client: Any = Client()
    Experiment(client, "0").log_files("run", store.folder("a1"))
    assert client.logged == ["own.png", "record.json"]


@pytest.mark.parametrize("name", ["setting", "model", "error", "notes", "config", "versions"])
def test_half_characters_in_a_record_become_escapes(name: str, store: Store) -> None:
    """A lone surrogate, which JSON can hold, is in no UTF-8 text: pandas and Parquet fail at it."""
    path = store.folder("a1") / "record.json"
    content = json.loads(path.read_text())
    content[name] = {"notes": ["\udcff"], "config": {"\udcff": "\udcff"}, "versions": {"a": "\udcff"}}.get(
        name, "\udcff"
    )
    path.write_text(json.dumps(content))
    frame = load_records(store.root)
    assert "\\\\udcff" in json.dumps(frame[name].iloc[0], ensure_ascii=True)
    assert summarise(frame).to_csv().encode("utf-8")

import json
from dataclasses import fields

import pytest

from bench.records.record import Record

REQUIRED = {
    "fingerprint": "f0",
    "status": "ok",
    "method": "tic",
    "setting": "tic(k=64)",
    "model": "resnet20",
    "dataset": "fashion-mnist",
    "weights": "shipped",
    "seed": 0,
    "budget_epochs": 1.0,
    "device": "cpu",
    "started_at": "2026-01-01T00:00:00+00:00",
}


def test_a_record_survives_json() -> None:
    record = Record(**REQUIRED, top1=0.9312, macs=40_000_000, versions={"torch": "2.9"}, config={"a": [1]}, notes=["x"])
    assert Record.from_json(record.to_json()) == record


def test_what_was_not_measured_is_null() -> None:
    written = json.loads(Record(**REQUIRED).to_json())
    assert written["top1"] is None and written["latency_speedup"] is None and written["error"] is None


def test_a_record_of_another_version_is_read() -> None:
    record = Record.from_json(json.dumps({**REQUIRED, "a_field_of_the_future": 1}))
    assert record == Record(**REQUIRED)


def test_a_figure_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError):
        Record(**REQUIRED, loss=float("nan")).to_json()
    for number in ("Infinity", "NaN"):
        with pytest.raises(ValueError, match="latency_speedup: "):
            Record.from_json(json.dumps(REQUIRED)[:-1] + f', "latency_speedup": {number}}}')


def test_a_record_without_its_identity_is_refused() -> None:
    with pytest.raises(ValueError, match="setting: Field required"):
        Record.from_json(json.dumps({name: value for name, value in REQUIRED.items() if name != "setting"}))


def test_the_fields_are_those_of_the_design() -> None:
    names = [field.name for field in fields(Record)]
    assert len(names) == len(set(names))
    assert {"top1", "compression_ratio", "macs_ratio", "latency_speedup", "robust_top1", "versions"} <= set(names)


def test_a_field_of_another_type_is_told() -> None:
    for name, value in {"top1": "abc", "notes": None, "config": None, "seed": 1.5, "status": "fine"}.items():
        with pytest.raises(ValueError, match=f"^{name}: Input should be "):
            Record.from_json(json.dumps(REQUIRED | {name: value}))


def test_what_cannot_have_been_measured_is_told() -> None:
    impossible = {"top1": 94.12, "compression_ratio": -1.02, "seed": -2, "macs": -1, "robust_top1": 1.5}
    for name, value in impossible.items():
        with pytest.raises(ValueError, match=f"^{name}: {value:g}, expected a number from 0"):
            Record.from_json(json.dumps(REQUIRED | {name: value}))
    with pytest.raises(ValueError, match="^started_at: 'yesterday', expected a time"):
        Record.from_json(json.dumps(REQUIRED | {"started_at": "yesterday"}))
    with pytest.raises(ValueError, match="^a list, expected an object"):
        Record.from_json("[]")
    assert Record.from_json(json.dumps(REQUIRED | {"top1_drop": -0.01})).top1_drop == -0.01

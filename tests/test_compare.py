"""`bench compare` and the board's rank intervals, on records whose predictions were drawn here."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
from numpy.typing import NDArray
from safetensors.numpy import save_file

from bench.leaderboard.board import to_markdown
from bench.leaderboard.compare import compare
from bench.leaderboard.exports import to_csv, to_json
from bench.leaderboard.page import write_html
from bench.leaderboard.summary import load_records, summarise
from bench.records.record import Record
from bench.system.errors import BenchError

IMAGES = 1000
LABELS = np.repeat(np.arange(10, dtype=np.int32), IMAGES // 10)


def answers(right: int, wrong_from: int = 0) -> NDArray[np.int32]:
    """Predictions of which `right` are right; the wrong ones are a run of images from one on."""
    predictions = LABELS.copy()
    wrong = (wrong_from + np.arange(IMAGES - right)) % IMAGES
    predictions[wrong] = (LABELS[wrong] + 1) % 10
    return predictions


def write(
    root: Path, setting: str, seed: int, predictions: NDArray[np.int32] | None, top1: float | None = None, **other: Any
) -> str:
    """A record with its predictions; its fingerprint."""
    labels = other.pop("labels", LABELS)
    name = f"{setting} {seed} {sorted((key, str(value)) for key, value in other.items())}"
    fingerprint = sha256(name.encode()).hexdigest()[:16]
    folder = root / "records" / fingerprint
    folder.mkdir(parents=True)
    mean = top1 if top1 is not None or predictions is None else float((predictions == labels).mean())
    content: dict[str, Any] = {
        "fingerprint": fingerprint, "status": "ok", "method": setting.split("(")[0], "setting": setting, "seed": seed,
        "model": "resnet20", "dataset": "ramps", "weights": "mine", "budget_epochs": 1.0, "device": "cpu", "top1": mean,
        "top1_drop": 0.95 - (mean or 0), "compression_ratio": 2.0, "started_at": f"2026-01-01T00:{seed:02}:00+00:00",
    }  # fmt: skip
    (folder / "record.json").write_text(Record(**content | other).to_json())
    if predictions is not None:
        tensors = {"predictions": predictions, "labels": labels, "dense": answers(950, 500)}
        save_file(tensors, folder / "predictions.safetensors")
    return fingerprint


@pytest.fixture
def store(tmp_path: Path) -> Path:
    root = tmp_path / "runs"
    write(root, "none", 0, answers(950, 500))
    for seed in range(3):
        write(root, "tic(k=64)", seed, answers(940 + seed, 510), config={"stages": [{"method": "tic"}]})
        write(root, "kse(G=4)", seed, answers(900 + seed, 300))
        write(root, "l1(rate=0.5)", seed, answers(903 + seed, 310))
    return root


def test_one_seed_against_scipy(tmp_path: Path) -> None:
    """910 and 880 right, in runs that overlap: only the first errs on 10 images, only the second on 40."""
    write(tmp_path, "tic", 0, answers(910, 0))
    write(tmp_path, "kse", 0, answers(880, 10))
    found = compare("tic", "kse", tmp_path)
    assert (found.only_first, found.only_second, found.images) == (40, 10, IMAGES)
    assert found.p == pytest.approx(scipy.stats.binomtest(10, 50).pvalue)
    assert found.difference == pytest.approx(0.03) and found.low > 0 and found.differs
    assert found.verdict.startswith("tic is better than kse by 3.00 points [1.")
    back = compare("kse", "tic", tmp_path)
    assert (back.low, back.high) == pytest.approx((-found.high, -found.low))
    low, high = (f"{100 * bound:.2f}" for bound in (found.low, found.high))
    assert back.verdict == f"kse is worse than tic by 3.00 points [{low}, {high}]"


def test_settings_are_compared_over_all_seeds_of_both(store: Path) -> None:
    found = compare("kse(G=4)", "l1(rate=0.5)", store)
    assert found.seeds == found.seeds_kept == (0, 1, 2) and found.by_seed == pytest.approx((-0.003,) * 3)
    assert not found.differs and found.low < 0 < found.high
    better, worse = (f"{100 * bound:.2f}" for bound in (found.high, -found.low))
    assert found.verdict == (
        "kse(G=4) and l1(rate=0.5) cannot be told apart: "
        f"kse(G=4) could still be up to {better} points better or {worse} points worse"
    )


def test_the_dense_network_is_one_for_all_seeds(store: Path) -> None:
    found = compare("dense", "tic(k=64)", store)
    assert found.seeds == (0, 1, 2) and found.by_seed == pytest.approx((0.010, 0.009, 0.008))


def test_the_worst_class_by_hand(store: Path) -> None:
    """kse errs on images 300 to 399, all of class 3, dense on 500 to 549; so kse loses 98 points of class 3 or more."""
    write(store, "taylor", 0, answers(900, 300))
    side = compare("taylor", "none", store).first
    assert (side.worst_class, side.worst_class_drop, side.worst_class_images) == ("class 3", 1.0, 100)
    table = "class,images,top1,top1_dense,drop\n" + "".join(f"name {n},100,0,0,0\n" for n in range(10))
    (record,) = (path.parent for path in store.glob("records/*/record.json") if '"taylor"' in path.read_text())
    (record / "classes.csv").write_text(table)
    assert compare("taylor", "none", store).first.worst_class == "name 3"


def test_a_setting_is_found_in_any_spelling(store: Path) -> None:
    for spelling in ("tic", "tic(k = 64)", "tic(k=64, transforms=8)"):
        assert compare(spelling, "kse(G=4)", store).first.name == "tic(k=64)"


def test_records_are_compared_by_fingerprint_whatever_their_seeds(store: Path) -> None:
    names = {record["seed"]: record["fingerprint"] for record in rows(store) if record["setting"] == "kse(G=4)"}
    found = compare(names[0], names[2], store)
    assert found.difference == pytest.approx(-0.002) and found.first.name == f"kse(G=4) {names[0][:6]}"
    mixed = compare(names[1], "l1(rate=0.5)", store)
    assert mixed.seeds == (1,) and mixed.difference == pytest.approx(-0.003)


def rows(store: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in store.glob("records/*/record.json")]


def test_seeds_without_predictions_count_by_their_top1(store: Path) -> None:
    for record in rows(store):
        if record["setting"] == "kse(G=4)" and record["seed"]:
            (store / "records" / record["fingerprint"] / "predictions.safetensors").unlink()
    found = compare("kse(G=4)", "tic(k=64)", store)
    assert found.seeds == (0, 1, 2) and found.seeds_kept == (0,) and found.by_seed == pytest.approx((-0.04,) * 3)


def test_mistakes_are_one_line(store: Path, bench_command: Callable[..., Any]) -> None:
    def mistake(*words: str) -> str:
        return str(bench_command("compare", *words, "--store", store).mistake)

    assert "tic(k=65): no such setting in" in mistake("tic(k=65)", "kse(G=4)")
    assert "nearest: tic(k=64)" in mistake("tic(k=65)", "kse(G=4)")
    assert "there is no method 'tick'; did you mean 'tic'?" in mistake("tick(k=64)", "kse(G=4)")
    assert "2 settings, expected one" in mistake("tic(k=4),kse", "kse(G=4)")
    assert "--model vgg: no such record" in mistake("tic(k=64)", "kse(G=4)", "--model", "vgg")
    assert "no such store" in str(bench_command("compare", "tic", "kse", "--store", store / "nowhere").mistake)
    write(store, "fixed", 0, None, status="failed", error="out of\nmemory")
    assert mistake("fixed", "kse(G=4)").endswith("failed: out of memory")
    write(store, "fixed(keep=0.9)", 7, answers(900))
    assert "no seed in common (fixed(keep=0.9): 7; kse(G=4): 0, 1, 2)" in mistake("fixed(keep=0.9)", "kse(G=4)")
    gone = write(store, "wcss", 0, None, top1=0.9)
    assert f"{gone}/predictions.safetensors is missing; run the trial again" in mistake("wcss", "kse(G=4)")
    write(store, "inertia", 0, answers(900)[::-1].copy(), labels=LABELS[::-1].copy())
    assert "not measured on the same test images in the same order" in mistake("inertia", "kse(G=4)")
    write(store, "magnitude", 0, answers(900), dataset="slopes")
    assert "not measured on the same task: magnitude: resnet20 slopes mine; tic" in mistake("magnitude", "tic(k=64)")
    write(store, "random", 0, answers(900), budget_epochs=5.0)
    assert "not measured on the same budget: random: 5.0; tic(k=64): 1.0" in mistake("random", "tic(k=64)")
    damaged = write(store, "scratch(of=tic)", 0, answers(900), top1=0.5)
    assert f"{damaged}: top-1 is 0.5 in record.json, 0.9 by" in mistake("scratch(of=tic)", "kse(G=4)")
    (store / "records" / damaged / "predictions.safetensors").write_bytes(b"x" * 100)
    assert "not predictions" in mistake("scratch(of=tic)", "kse(G=4)")


def test_several_tasks_are_named_and_chosen_from(store: Path, bench_command: Callable[..., Any]) -> None:
    for setting in ("tic(k=64)", "kse(G=4)"):
        write(store, setting, 0, answers(800), dataset="slopes")
        write(store, setting, 0, answers(700), dataset="slopes", budget_epochs=3.0)
    words = ("compare", "tic(k=64)", "kse(G=4)", "--store", store)
    several = "2 tasks match: resnet20 ramps mine, resnet20 slopes mine; choose one by its model, dataset or weights"
    assert sorted(bench_command(*words).mistake.split(": ")[0]) == sorted(several.split(": ")[0])
    budgets = bench_command(*words, "--dataset", "slopes").mistake
    assert budgets.startswith("2 budgets match: ") and budgets.endswith("; choose one by its epochs")
    said = bench_command(*words, "--dataset", "slopes", "--epochs", 3)
    assert said.code == 0 and "resnet20 on slopes, weights mine, budget 3 epochs" in said.out
    assert "cannot be told apart" in said.out


@pytest.fixture
def both_protocols(store: Path) -> Path:
    """tic and kse again, with the dense network's statistics: there kse is the better one."""
    for seed in range(3):
        for setting, right in (("tic(k=64)", 700), ("kse(G=4)", 800)):
            write(store, setting, seed, answers(right + seed), recalibrate=False)
            write(store, setting, seed, answers(right + 100 + seed), recalibrate=False, dataset="slopes")
    return store


def test_recalibrated_records_are_compared_where_there_are_both(
    both_protocols: Path, bench_command: Callable[..., Any]
) -> None:
    def said(*options: object) -> str:
        told = bench_command("compare", "tic(k=64)", "kse(G=4)", "--store", both_protocols, *options)
        assert told.code == 0, told.err
        return " ".join(told.out.split())

    note = "With re-estimated batch-norm statistics; --no-recalibrate compares the records without."
    for options in ([], ["--weights", "mine"]):
        text = said("--dataset", "ramps", *options)
        assert "weights mine, budget" in text and "tic(k=64) is better" in text and text.endswith(note)
    assert note not in said("--dataset", "ramps", "--recalibrate")
    for options in (["--weights", "mine"], ["--weights", "mine, not recalibrated"], []):
        text = said("--dataset", "ramps", "--no-recalibrate", *options)
        assert "weights mine, not recalibrated, budget" in text and "tic(k=64) is worse" in text and note not in text
    alone = said("--dataset", "slopes")
    assert "not recalibrated" in alone and note not in alone, "nothing else was measured there"


def test_a_protocol_that_was_not_measured_is_named(store: Path, both_protocols: Path) -> None:
    with pytest.raises(BenchError, match="2 tasks match: .*slopes mine, not recalibrated"):
        compare("tic(k=64)", "kse(G=4)", both_protocols)
    with pytest.raises(BenchError, match="--recalibrate: every such record in .* without re-estimated statistics"):
        compare("tic(k=64)", "kse(G=4)", both_protocols, dataset="slopes", recalibrate=True)
    with pytest.raises(BenchError, match="no such setting"):
        compare("tic(k=64)", "l1(rate=0.5)", both_protocols, recalibrate=False)


def test_a_record_is_compared_with_a_setting_of_its_protocol(both_protocols: Path) -> None:
    papers = [record for record in rows(both_protocols) if not record["recalibrate"] and record["dataset"] == "ramps"]
    first = next(r["fingerprint"] for r in papers if r["setting"] == "tic(k=64)" and r["recalibrate"] is False)
    found = compare(first, "kse(G=4)", both_protocols)
    assert found.task[-1] == "mine, not recalibrated" and found.second.top1 < 0.85 and not found.both_protocols


def test_the_command_shows_both_sides(store: Path, bench_command: Callable[..., Any]) -> None:
    said = bench_command("compare", "kse(G=4)", "none", "--store", store)
    text = " ".join(said.out.split())
    assert said.code == 0 and "kse(G=4) is worse than dense by 4.90 points [" in text and "(p = 6.1e-05)." in text
    assert "top-1 % 90.10 95.00" in text and "size 2.00× 2.00×" in text
    assert "99.00 of class 3 (100 images) none" in text and "-5.00, -4.90, -4.80 points" in text


def test_comparing_needs_no_torch() -> None:
    code = "import bench.leaderboard.compare, sys; sys.exit(bool({'torch', 'pandas', 'rich'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def intervals(summary: Any) -> dict[str, str]:
    return {
        row["setting"]: f"{row['rank_low']:g}-{row['rank_high']:g}"
        for row in summary.to_dict("records")
        if row["seeds"]
    }


def test_settings_that_cannot_be_told_apart_share_ranks(store: Path) -> None:
    """dense and tic are better than kse and l1; within the pairs nothing differs."""
    summary = summarise(load_records(store), store)
    assert intervals(summary) == {"none": "1-2", "tic(k=64)": "1-2", "l1(rate=0.5)": "3-4", "kse(G=4)": "3-4"}
    assert "| tic(k=64) | 94.10 ±0.25 | 1-2 |" in to_markdown(summary)
    assert json.loads(to_json(summary))[0]["rank_high"] == 2 and ",rank_low,rank_high," in to_csv(summary)
    without = summarise(load_records(store))
    assert without[["rank_low", "rank_high"]].isna().all(axis=None)
    assert "| tic(k=64) | 94.10 ±0.25 | – |" in to_markdown(without)


def test_what_was_not_measured_on_the_same_images_has_no_rank(store: Path) -> None:
    other = LABELS[::-1].copy()
    write(store, "magnitude", 0, answers(500)[::-1].copy(), labels=other, started_at="2025-01-01T00:00:00+00:00")
    write(store, "fixed", 0, None, top1=0.4)
    write(store, "random", 5, answers(100))
    found = intervals(summarise(load_records(store), store))
    assert found["magnitude"] == found["fixed"] == "nan-nan"
    assert found["random"] == "2-5", "it has a seed in common with dense alone, which is better"
    assert found["none"] == "1-2"


def test_tasks_are_ranked_apart(store: Path) -> None:
    write(store, "tic(k=64)", 0, answers(100), dataset="slopes")
    summary = summarise(load_records(store), store)
    alone = summary[summary["dataset"] == "slopes"]
    assert intervals(alone) == {"tic(k=64)": "1-1"} and "| 10.00 | 1 |" in to_markdown(alone)
    with pytest.raises(BenchError, match="same task"):
        write(store, "kse(G=9)", 0, answers(100), dataset="slopes")
        compare("kse(G=9)", "kse(G=4)", store)


def test_the_worst_class_is_on_the_board_and_its_images_on_the_page(store: Path, tmp_path: Path) -> None:
    for seed, (name, drop) in enumerate([("shirt", 0.12), ("coat with a long name", 0.06), ("shirt", 0.09)]):
        fingerprint = write(store, "fixed", seed, answers(800), worst_class=name, worst_class_drop=drop)
        table = f"class,images,top1,top1_dense,drop\nbag,120,0.9,0.9,0\n{name},1000,0.8,0.92,{drop}\n"
        (store / "records" / fingerprint / "classes.csv").write_text(table)
    records = load_records(store)
    summary = summarise(records, store)
    text = to_markdown(summary)
    assert (
        "| worst class |" in text
        and "| 15.00 | 9.0 shirt |" in text
        and "worst class: the largest loss of a class" in text
    )
    assert dict(zip(summary["setting"], summary["worst_class"], strict=True))["fixed"] == "shirt"
    write_html(records, tmp_path / "site", store)
    (page,) = (path.read_text() for path in tmp_path.glob("site/settings/*-fixed-*.html"))
    table = page.split(">Classes</h2>")[1].split("</table>")[0]
    assert table.index("shirt") < table.index("bag") and "1000" in table and "12.00" in table and "120" in table
    assert "Of seed 0." in page.split(">Classes</h2>")[1].split("</section>")[0]

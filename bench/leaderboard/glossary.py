"""What every figure means, by the name and in the unit that the board uses. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass

from bench.records.record import FIGURES

PERCENT, POINTS = "%", "points"
LOSSES = ("top1_drop", "worst_class_drop")
"""Fractions that are shown as points, since they are differences of percentages."""


@dataclass(frozen=True)
class Term:
    """A figure of a record: its field, its name on the board, what it means, and whether it is a column there."""

    field: str
    name: str
    meaning: str
    on_board: bool = False

    @property
    def unit(self) -> str:
        """The unit in which it is shown; empty for a plain number."""
        unit = FIGURES[self.field].unit
        return (POINTS if self.field in LOSSES else PERCENT) if unit.startswith("fraction") else unit

    @property
    def scale(self) -> int:
        """What the stored figure is multiplied with."""
        return 100 if self.unit in (POINTS, PERCENT) else 1


BOARD = True
GROUPS: dict[str, list[Term]] = {
    "Accuracy": [
        Term("top1", "top-1", "Test images whose class is predicted correctly, after the last epoch.", BOARD),
        Term("top1_drop", "drop", "Top-1 lost against the dense network.", BOARD),
        Term("top1_dense", "top-1, dense", "Top-1 of the dense network that was compressed."),
        Term("top5", "top-5", "Test images whose class is among the five most likely."),
        Term("agreement", "agreement", "Test images for which the dense network predicts the same class."),
        Term("runtime_agreement", "agreement of runtime", "Test images for which the runtime predicts as torch does."),
        Term("worst_class_drop", "worst class", "The largest loss of a class; noisy if a class has few images.", BOARD),
        Term("loss", "loss", "Mean cross-entropy on the test images."),
        Term("calibration_error", "calibration error", "Expected calibration error, 15 bins."),
    ],
    "Size": [
        Term("compression_ratio", "size", "Bytes of the dense network's file, divided by the file's bytes.", BOARD),
        Term("compressed_ratio", "zstd", "As size, with the file compressed by zstandard.", BOARD),
        Term("formula_ratio", "size by formula", "The ratio by the formulas of the papers, for the whole network."),
        Term("kernel_ratio", "size of kernels", "The same for the encoded weights alone."),
        Term("artifact_bytes", "file", "Bytes of the file that holds the compressed network."),
        Term("artifact_compressed_bytes", "file, zstd", "The same after zstandard."),
        Term("dense_bytes", "file, dense", "Bytes of the dense network's file, in 32-bit floats."),
        Term("params", "parameters", "Parameters that the file holds."),
        Term("params_dense", "parameters, dense", "Parameters of the dense network."),
        Term("reachable_share", "reachable", "Parameters of the dense network that the setting can compress at all."),
    ],
    "Arithmetic": [
        Term("macs_ratio", "MACs", "Multiply-adds of the dense network for an image, divided by the network's.", BOARD),
        Term("macs_full_ratio", "MACs with additions", "The same, with additions that the method's formula ignores."),
        Term("macs", "multiply-adds", "Multiply-adds for one image."),
        Term("macs_full", "with additions", "The same, with additions and scalings."),
        Term("macs_dense", "multiply-adds, dense", "Multiply-adds of the dense network."),
    ],
    "Latency, one image": [
        Term("latency_speedup", "latency", "The dense network's time divided by the network's, in turn.", BOARD),
        Term("latency_speedup_low", "latency, low", "Lower end of its 95% interval over rounds."),
        Term("latency_speedup_high", "latency, high", "Upper end of its 95% interval over rounds."),
        Term("latency_ms_p50", "time, median", "Half of the timings are shorter."),
        Term("latency_ms_p90", "time, 90%", "Nine tenths of the timings are shorter."),
        Term("latency_ms_p99", "time, 99%", "Of a hundred timings, 99 are shorter."),
        Term("latency_dense_ms_p50", "time, dense", "Median of the dense network's timings."),
        Term("latency_self_speedup_low", "dense again, low", "Lower end for the dense network timed against itself."),
        Term("latency_self_speedup_high", "dense again, high", "Upper end of the same, 99%."),
    ],
    "Throughput, full batches": [
        Term("throughput_speedup", "images/s", "Images per second, divided by the dense network's.", BOARD),
        Term("throughput_speedup_low", "images/s, low", "Lower end of its 95% interval over rounds."),
        Term("throughput_speedup_high", "images/s, high", "Upper end of its 95% interval over rounds."),
        Term("throughput_ips", "rate", "Images per second."),
        Term("throughput_dense_ips", "rate, dense", "Images per second of the dense network."),
        Term("throughput_self_speedup_low", "dense again, low", "Lower end for the dense network against itself."),
        Term("throughput_self_speedup_high", "dense again, high", "Upper end of the same, 99%."),
        Term("throughput_batch", "batch", "Images in a batch, as many as saturate the device."),
        Term("other_load", "other load", "Share of the processor that other programs used meanwhile."),
        Term("peak_memory_mb", "memory", "The most memory that the network takes for a batch, with its weights."),
    ],
    "Cost": [
        Term("epochs_spent", "epochs", "Passes over the training images, with those that rank weights.", BOARD),
        Term("recalibration_batches", "recalibration", "Training batches that re-estimated batch-norm statistics."),
        Term("compress_seconds", "compressing", "Time of the method, without training."),
        Term("fit_seconds", "training", "Time of training."),
        Term("duration_seconds", "trial", "Time of the whole trial."),
    ],
    "Robustness": [
        Term("robust_top1", "robust", "Top-1 on attacked images (PGD).", BOARD),
        Term("attack_success_rate", "fooled", "Attacks that changed a correct prediction.", BOARD),
        Term("clean_top1", "clean", "Top-1 on the same images, unchanged."),
        Term("prediction_change_rate", "changed", "Predictions that the attack changed."),
        Term("attack_images", "attacked", "Test images that were attacked."),
        Term("attack_distance", "distance", "How far a pixel may move."),
    ],
}
"""Every figure of a record once, in groups."""
WORDS = {
    "method": "An algorithm that makes a network smaller or faster. Joined by +, methods are applied in turn.",
    "setting": "A method with its options, such as tic(k=64): one row, and one point in each chart.",
    "dense": "The network as it was before compression; its gain is 1× by definition.",
    "control": "A simple method to compare with: random pruning, magnitude pruning, rounding, no compression.",
    "gain": "The dense network's figure divided by the setting's. 2× is half the file, or twice as fast.",
    "budget": "Passes over the training images that a method may spend, the same for all.",
    "seed": "A repetition with other random numbers. Figures are means over seeds, ± half the 95% interval.",
    "rank": "Place by top-1 within a task. Settings that cannot be told apart on the same images share ranks.",
    "Pareto front (●)": "Settings that no other one beats in both figures of a chart.",
    "noisy (~, hollow)": "A timing that cannot be trusted, as on a busy machine; it takes no place.",
}
"""Words of the page that name no figure."""


def terms() -> dict[str, str]:
    """Words and the board's figures with their meanings, in the order of the page."""
    columns = [term for group in GROUPS.values() for term in group if term.on_board]
    named = {f"{term.name}{f' ({term.unit})' if term.unit else ''}": term.meaning for term in columns}
    return WORDS | named

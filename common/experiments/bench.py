"""How long an epoch takes, the sources' training and ours side by side on this machine: `course.py bench`.

Each measurement is a process of its own: nothing that one variant leaves behind (caches, an allocator's free list)
helps or hurts another. The variants take turns, so that a machine that slows down slows all of them. The images are
random pixels: how long a batch takes does not depend on what is drawn, and nothing need be downloaded.
"""

import argparse
import dataclasses
import json
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from common.experiments.roofline import IMAGES, least_work, limit_seconds, machine
from common.recipe import ROOT
from common.system.errors import UserError
from common.system.files import write_atomically

RECORDED = ROOT / "sessions" / "S9" / "bench.json"  # the measurement that the texts quote
RECORDED_GPU = RECORDED.with_name("bench_gpu.json")
RECORDED_AMX = RECORDED.with_name("bench_amx.json")  # of a CPU with matrix units; older than the layers in CHWN layout
RECORDED_LAYERS = RECORDED.with_name("bench_layers.json")
GPU_TIMES = 5  # as many batches on a GPU
BATCHES = {  # how many are timed: a few seconds' worth
    "S5/step1_first_network": 4,
    "S6/part2_step3_global_pooling": 40,
    "S7/block3": 80,
}
LAYERS = {  # the networks whose layers alone are compared, PyTorch's and ours, with our loader and with their teacher
    "S6/part2_step1_dense_head": 40,
    "S6/part2_step2_strided": 60,
    "S6/part2_step3_global_pooling": 40,
    "S8/under_20k": 40,
    "S7/block1": 60,
    "S7/block3": 80,
    "S8/step7_two_budgets": 60,
    "S8/step8_frontier": 80,
    "S8/frontier_1196": 120,
    "S10/step2_other_writers": 80,
}


@dataclass(frozen=True)
class TrainingVariant:
    """How an epoch is computed; the defaults are the sources'. Every variant follows the same recipe."""

    loader: str = "DataLoader"  # or "cached", "no DataLoader", "in memory" (`variants.make_loader`)
    read_each_batch: bool = True  # the sources print the loss and the accuracy after every batch
    keep_memory: bool = False  # freed memory stays with the process (`acceleration.keep_memory`)
    fast_dropout: bool = False  # `common.cpu_kernels.dropout`
    micro_batches: bool = False  # a large batch in parts that fit the processor's cache
    channels_last: bool | str = False  # or "where it helps": where `acceleration.optimize_memory_layout` expects it to
    chwn: bool = False  # the batch last in memory, where `common.cpu_kernels.chwn` supports the network
    fused_optimizer: bool | str = False  # or "with chwn", as in the lessons' training
    precision: str = "float32"  # or "bfloat16", or "auto" (`acceleration.precision`)
    compiled: bool = False  # by torch.compile
    cuda_graph: bool = False  # the training step replayed as a CUDA graph (`acceleration.CudaGraphStep`)
    device: str = "cpu"
    workers: int = 0  # processes that make the DataLoader's images


SOURCES = TrainingVariant()
IN_MEMORY = TrainingVariant(loader="in memory", read_each_batch=False)
FLOAT32 = dataclasses.replace(
    IN_MEMORY, keep_memory=True, fast_dropout=True, micro_batches=True, channels_last="where it helps"
)
VARIANTS = {  # of each step: the lines of the table; "default" is how the lessons train
    "sources": SOURCES,
    "float32": FLOAT32,
    "default": dataclasses.replace(FLOAT32, precision="auto", chwn=True, fused_optimizer="with chwn"),
    "compiled": dataclasses.replace(FLOAT32, precision="auto", compiled=True),
}
GPU_SOURCES = TrainingVariant(device="cuda", workers=4)  # on a GPU such notebooks have four workers, and pinned memory
GPU_DEFAULT = dataclasses.replace(GPU_SOURCES, loader="in memory", workers=0, read_each_batch=False, cuda_graph=True)
GPU_VARIANTS = {  # the same for a GPU, one change after the other; the last three are tried on top of the default
    "sources": GPU_SOURCES,
    "resident": dataclasses.replace(GPU_DEFAULT, read_each_batch=True, cuda_graph=False),
    "unread": dataclasses.replace(GPU_DEFAULT, cuda_graph=False),
    "default": GPU_DEFAULT,
    "fused": dataclasses.replace(GPU_DEFAULT, fused_optimizer=True),
    "bfloat16": dataclasses.replace(GPU_DEFAULT, precision="bfloat16"),
    "compiled": dataclasses.replace(GPU_DEFAULT, compiled=True),
}


def main(arguments: list[str] | None = None) -> None:
    """The command line: print the table, write the JSON file."""
    about = "How long an epoch takes, the sources' way and ours, side by side on this machine."
    parser = argparse.ArgumentParser(prog="course.py bench", description=about, allow_abbrev=False)
    parser.add_argument("--repeats", type=int, default=3, help="measurements of each variant (default: 3)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="cpu (the default) or cuda")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "bench.json", help="default: runs/bench.json")
    parser.add_argument("--layers", action="store_true", help="PyTorch's layers against ours, on a CPU")
    parser.add_argument("--ladder", action="store_true", help="one change after the other, from the sources' loop on")
    parser.add_argument("--parts", action="store_true", help="layouts, loops, loaders, growth and the price of a call")
    parser.add_argument("--beside", action="store_true", help="measure the default alone and beside other programs")
    parser.add_argument("--course", action="store_true", help="how long the course takes with every lesson in full")
    parser.add_argument("--record", action="store_true", help="write it to sessions/S9 instead of --out")
    options = parser.parse_args(arguments)
    if options.repeats < 1:
        raise UserError(f"--repeats must be at least 1, not {options.repeats}.")
    if options.layers and options.device == "cuda":
        raise UserError("--layers compares layers that train on a CPU; leave --device out.")
    if options.ladder or options.parts or options.beside or options.course:
        from common.experiments import ablation, beside, course_time, parts

        asked = {ablation: options.ladder, parts: options.parts, beside: options.beside, course_time: options.course}
        what = next(module for module, is_asked in asked.items() if is_asked)
        result = what.compare()
        print(what.table(result))
        write_atomically(what.RECORDED if options.record else options.out, json.dumps(result, indent=1) + "\n")
        return
    if options.device == "cuda":
        from common.training import loops

        loops.choose_device("cuda")  # or one sentence, before anything is measured
    result = compare(options.repeats, options.device, options.layers)
    print(table(result))
    recorded = RECORDED_LAYERS if options.layers else RECORDED if options.device == "cpu" else RECORDED_GPU
    write_atomically(recorded if options.record else options.out, json.dumps(result, indent=1) + "\n")


def compare(repeats: int, device: str = "cpu", layers: bool = False) -> dict:
    """Every step's variants in turn, `repeats` times, and what the machine can do at best; or the `layers` alone."""
    steps = {}
    for step, batches in (LAYERS if layers else BATCHES).items():
        variants = {name: VARIANTS[name] for name in ("float32", "default")} if layers else variants_of(step, device)
        runs = {name: [] for name in variants}
        for _ in range(repeats):
            for name, variant in variants.items():
                runs[name].append(measure(step, variant, batches if device == "cpu" else GPU_TIMES * batches))
                said = f"{step} {name}: {short(runs[name][-1]['seconds'])} s an epoch"
                print(f"{'measured':<11}{said}", file=sys.stderr)
        steps[step] = {"variants": runs, **least_work(step)}
    return {**machine(device), "steps": steps}


def variants_of(step: str, device: str) -> dict[str, TrainingVariant]:
    """The variants that are compared: all of them for S7, fewer for the others, to save time.

    A compiler's start takes longer than all other measurements of a step.
    """
    if step.startswith("S7"):
        return VARIANTS if device == "cpu" else GPU_VARIANTS
    if device == "cpu":
        return {name: variant for name, variant in VARIANTS.items() if name != "compiled"}
    return {name: GPU_VARIANTS[name] for name in ("sources", "default")}


def table(result: dict) -> str:
    """The comparison as aligned text: medians, with minimum and maximum in brackets.

    The ratio is to the sources' loop, or, where that is not measured, to PyTorch's layers in our loop.
    """
    lines = [
        f"{'seconds an epoch of 60,000 images':<40}{'median (min-max)':>22}{'ratio':>7}{'images/s':>10}"
        f"{'of the limit':>14}{'memory':>10}"
    ]
    for step, measured in result["steps"].items():
        for name, runs in measured["variants"].items():
            line, seconds = figures(result, step, name), sorted(run["seconds"] for run in runs)
            spread = f"{short(line['seconds'])} ({short(seconds[0])}-{short(seconds[-1])})"
            limit = f"{line['limit']:.0f}" if line["limit"] >= 1 else f"{line['limit']:.1f}"
            lines.append(
                f"{step + ', ' + name:<40}{spread:>22}{line['ratio']:>7.1f}{IMAGES / line['seconds']:>10,.0f}"
                f"{limit:>12} %{line['memory']:>7.0f} MB"
            )
    lines.append(
        f"{result['device']}, {result['threads']} threads, {result['machine']}, torch {result['torch']}; "
        f"matrix product {result['float32_flops'] / 1e9:.0f} GFLOP/s in float32, "
        f"{result['bfloat16_flops'] / 1e9:.0f} in bfloat16; "
        f"copy {result['copy_bytes_per_second'] / 1e9:.0f} GB/s"
    )
    return "\n".join(lines)


def load(path: Path) -> dict:
    """One of the records above, or of the other modules' of this room."""
    return json.loads(path.read_text(encoding="utf-8"))


def machine_line(result: dict) -> str:
    """The machine of a measurement, as a line of a page's output."""
    return (
        f"{'machine':<11}{result['device']}, {result['threads']} thread{'s' * (result['threads'] > 1)}, float32, "
        f"{result['machine']}, torch {result['torch']}, Python {result['python']}"
    )


def figures(result: dict, step: str, name: str) -> dict[str, float]:
    """One line of the table: median seconds, times the sources, per cent of the machine's limit, peak megabytes."""
    measured = result["steps"][step]
    runs = measured["variants"][name]
    seconds = median(runs)
    return {
        "seconds": seconds,
        "ratio": median(measured["variants"].get("sources") or measured["variants"]["float32"]) / seconds,
        "limit": 100 * limit_seconds(measured, result, runs[0]["precision"]) / seconds,
        "memory": max(run["peak_megabytes"] or 0 for run in runs),
    }


def short(seconds: float) -> str:
    """The seconds with as many decimals as they need to be told apart."""
    return f"{seconds:.1f}" if seconds >= 2 else f"{seconds:.2f}"


def median(runs: list[dict]) -> float:
    """The median of the runs' seconds."""
    return statistics.median(run["seconds"] for run in runs)


def measure(step: str, variant: TrainingVariant, batches: int, epochs: int = 1) -> dict:
    """What `variants.time_epoch` measures, in a process of its own. Raises UserError when it fails."""
    request = json.dumps({"step": step, "variant": dataclasses.asdict(variant), "batches": batches, "epochs": epochs})
    command = [sys.executable, "-m", "common.experiments.variants", request]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.stderr.write(done.stderr)
        raise UserError(f"The measurement of {step}, {variant}, failed (see above).")
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()

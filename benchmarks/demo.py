"""Measure the demo: `python -m benchmarks.demo` writes docs/results/demo.json.

Claim: in at most 3 minutes and 3 GB the attack sends MAP below chance, and SAAT brings it back more than half way to
the undefended model's clean MAP. Baselines: chance, and the undefended model.
"""

import subprocess
import sys
import time
from pathlib import Path

import tyro

from benchmarks.timing import write_result
from saat_tf.evaluation import result_value
from trainers.run_folder.finished_run import read_card

QUICK = ("--image-size", "16", "--num-train", "64", "--num-queries", "8",
         "--pretrain-epochs", "1", "--epochs", "1", "--attack-steps", "2")  # fmt: skip


def main(*, quick: bool = False) -> None:
    """Run the demo in a process of its own, keep its run folder, and print and write what was found.

    Args:
        quick: a few small pictures and one epoch: whether it works.
    """
    run_dir = Path("runs") / f"benchmark-demo-{time.strftime('%Y%m%d-%H%M%S')}"
    options = QUICK if quick else ()
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "trainers.scenes", "--recipe", "fast", "--run-dir", str(run_dir), *options], check=True
    )
    seconds = time.perf_counter() - started
    card = read_card(run_dir)
    clean = result_value(card, defense="none", attack="none")
    attacked = result_value(card, defense="none", attack="mainstay")
    robust = result_value(card, defense="saat", attack="mainstay")
    print(f"seconds {seconds:.0f} (goal: at most 180), peak memory {card['peak_rss_mb']} MB (goal: at most 3072)")
    print(f"undefended clean MAP {clean:.3f} (goal: at least 0.85)")
    print(f"undefended attacked MAP {attacked:.3f} (goal: below chance, {card['chance_map']:.3f})")
    print(f"SAAT attacked MAP {robust:.3f} (goal: halfway, at least {(clean + attacked) / 2:.3f})")
    maps = {
        "chance": card["chance_map"],
        "undefended": clean,
        "undefended, attacked": attacked,
        "SAAT, attacked": robust,
    }
    found = {"seconds": round(seconds), "peak_rss_mb": card["peak_rss_mb"], "seed": card["config"]["seed"], "map": maps}
    write_result("demo", found, quick=quick)


if __name__ == "__main__":
    tyro.cli(main)

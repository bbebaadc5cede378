"""Measure the demo: `python -m benchmarks.demo` runs it whole and prints time, memory and the three MAPs."""

import json
import subprocess
import sys
import time
from pathlib import Path

from saat_tf.evaluation import result_value


def main() -> None:
    """Run the demo in a process of its own, keep its run folder, and print what README states."""
    run_dir = Path("runs") / f"benchmark-demo-{time.strftime('%Y%m%d-%H%M%S')}"
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "trainers.scenes", "--run-dir", str(run_dir)], check=True)
    seconds = time.perf_counter() - started
    card = json.loads((run_dir / "card.json").read_text())
    clean = result_value(card, defense="none", attack="none")
    attacked = result_value(card, defense="none", attack="mainstay")
    robust = result_value(card, defense="saat", attack="mainstay")
    print(f"seconds {seconds:.0f} (goal: at most 480), peak memory {card['peak_rss_mb']} MB (goal: at most 3072)")
    print(f"undefended clean MAP {clean:.3f} (goal: at least 0.8)")
    print(f"undefended attacked MAP {attacked:.3f} (goal: below chance, {card['chance_map']:.3f})")
    print(f"SAAT attacked MAP {robust:.3f} (goal: halfway, at least {(clean + attacked) / 2:.3f})")
    print(f"versions {card['versions']}, machine {card['machine']}, seed {card['config']['seed']}")


if __name__ == "__main__":
    main()

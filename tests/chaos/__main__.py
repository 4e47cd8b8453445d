"""`make chaos SEED=1 [MINUTES=10]`: the kill loop from the command line; exit code 1 on any violation."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from pathlib import Path

from tests.chaos.run import Loop, Run, clean_up
from tests.support.stack import ROOT


def main() -> int:
    """Run once and print the figures."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--heal-s", type=float, default=900.0, help="longest time to heal")
    parser.add_argument("--made-up", action="store_true", help="made-up documents, even where the sample data is")
    parser.add_argument("--real-model", action="store_true", help="embed with the bundled model")
    parser.add_argument("--home", type=Path, help="where to keep the evidence; default .chaos/SEED")
    args = parser.parse_args()
    home: Path = args.home or ROOT / ".chaos" / str(args.seed)
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    started = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - started:6.1f} s] {text}", flush=True)

    run = Run(args.seed, args.minutes * 60, heal_s=args.heal_s, real_edits=not args.made_up, real_model=args.real_model)
    say(f"seed {run.seed}, {args.minutes:g} minutes; the plan is in {home}/plan.log")
    figures = Loop(run, home, say).play()
    print(json.dumps(figures.told(), indent=1))
    if figures.violations:
        say(f"{len(figures.violations)} violations; the evidence is in {home}")
        print("\n".join(figures.violations[:20]))
        return 1
    clean_up(home)
    say("clean")
    return 0


if __name__ == "__main__":
    sys.exit(main())

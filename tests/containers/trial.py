"""Builds the images, starts everything, goes through the trials of programs.py, stores.py and production.py, and takes everything away.

Usage: trial.py [programs] [stores] [production] [the name of one trial]. Prints what was seen, one line per promise, and `N passed, N failed`.
"""

import os
import sys
import time

import production
import programs
import stores
from installation import Failed, compose, run, up

PARTS = {"programs": programs.TRIALS, "stores": stores.TRIALS, "production": production.TRIALS}


def build():
    begun = time.monotonic()
    # Without an output of its own: only what went wrong is of interest.
    if not os.environ.get("AS_BUILT"):
        compose("--profile", "sandbox", "build", "--quiet")
    sizes = run("docker", "image", "ls", "--format", "{{.Repository}} {{.Size}}", "--filter", "reference=rollcall*")
    return f"built in {time.monotonic() - begun:.0f} s: {', '.join(sizes.splitlines())}"


def take_away():
    stores.take_away()
    compose("--profile", "*", "down", "--volumes", "--remove-orphans", check=False)


def start():
    return f"api, worker and calls twice each: healthy {up(2):.0f} s after `up`"


def main():
    known = PARTS | {trial.__name__: [trial] for trials in PARTS.values() for trial in trials}
    parts = sys.argv[1:] or list(PARTS)
    if not set(parts) <= set(known):
        sys.exit(f"no such part: {' '.join(parts)} ({', '.join(known)})")
    passed = failed = 0
    take_away()
    try:
        for trial in [build, start, *(trial for part in parts for trial in known[part])]:
            begun = time.monotonic()
            try:
                seen = trial()
                passed += 1
                print(f"SEEN   {trial.__name__} ({time.monotonic() - begun:.0f} s): {seen}")
            except (Failed, OSError, LookupError, ValueError) as why:
                failed += 1
                print(f"FAILED {trial.__name__}: {why!r}")
                if trial in (build, start):
                    break
    finally:
        if not os.environ.get("KEEP"):
            take_away()
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()

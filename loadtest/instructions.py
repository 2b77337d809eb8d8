#!/usr/bin/env python3
"""Counts the instructions of what is hot, and compares them with the committed figures (loadtest/instructions.txt).

    loadtest/instructions.py             compares; fails when an operation takes over 3 % more than committed
    loadtest/instructions.py --bless     writes the figures down instead
    loadtest/instructions.py NAME...     only these

Each operation of `instructions` is run twice under cachegrind, so many times and twice as many. The difference is divided by
so many: what starts and prepares cancels out. Instructions do not depend on how busy the machine is; they do on the
compiler and the architecture, so figures of another compiler are printed and not judged.

Needs valgrind, and target/release/instructions; INSTRUCTIONS names another one. Only the standard library of Python 3.8.
"""

import os
import platform
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FIGURES = ROOT / "loadtest" / "instructions.txt"
# Over so many percent more, it fails; below so many less, the figures should be written anew.
PERCENT_MAX = 3.0
HEADER = "# Instructions of one operation (docs/performance.md). Written by loadtest/instructions.py --bless.\n"


def fail(message):
    sys.exit(f"instructions.py: {message}")


def output(*command):
    try:
        return subprocess.run(command, check=True, text=True, capture_output=True)
    except FileNotFoundError:
        fail(f"{command[0]} is not there")
    except subprocess.CalledProcessError as error:
        fail(f"{' '.join(command)}: {error.stderr.strip() or error}")


def the_program():
    """INSTRUCTIONS, or the one of the release profile."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    program = os.environ.get("INSTRUCTIONS", str(target / "release" / "instructions"))
    if not Path(program).exists():
        fail(f"{program} is not there: cargo build --release --bin instructions")
    return program


def compiler():
    """What the figures depend on, besides the code."""
    version = output("rustc", "--version").stdout.strip()
    return f"{version}, {platform.machine()}"


def count(program, name, times):
    """Instructions of the whole process."""
    tool = ["valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]
    said = output(*tool, program, name, str(times)).stderr
    found = re.search(r"I\s+refs:\s+([\d,]+)", said)
    if not found:
        fail(f"valgrind did not say how many instructions {name} took:\n{said}")
    return int(found.group(1).replace(",", ""))


def counted(program, wanted):
    """Instructions of one operation, by name."""
    listed = [line.split() for line in output(program).stdout.splitlines()]
    unknown = set(wanted) - {name for name, _ in listed}
    if unknown:
        fail(f"no such operation: {', '.join(sorted(unknown))}")
    chosen = [(name, int(times)) for name, times in listed if not wanted or name in wanted]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        runs = [(pool.submit(count, program, n, 2 * t), pool.submit(count, program, n, t), n, t) for n, t in chosen]
        return {n: round((double.result() - single.result()) / t, 1) for double, single, n, t in runs}


def committed():
    """The compiler of the committed figures, and these."""
    if not FIGURES.exists():
        return None, {}
    by, figures = None, {}
    for line in FIGURES.read_text().splitlines():
        if line.startswith("compiler: "):
            by = line[len("compiler: "):]
        elif line and not line.startswith("#"):
            name, figure = line.split()
            figures[name] = float(figure)
    return by, figures


def bless(now, wanted):
    _, figures = committed()
    if wanted:
        now = {**figures, **now}
    lines = [f"{name:24}{figure:12.1f}\n" for name, figure in now.items()]
    FIGURES.write_text(HEADER + f"compiler: {compiler()}\n" + "".join(lines))
    print(f"written to {FIGURES.relative_to(ROOT)}")


def compare(now, wanted):
    """Prints a table; the operations that got more expensive, and those that are not committed or counted any more."""
    by, before = committed()
    judged = by == compiler()
    print(f"{'operation':24}{'committed':>12}{'now':>12}{'change':>10}")
    wrong, better = [], []
    for name, figure in now.items():
        if name not in before:
            print(f"{name:24}{'none':>12}{figure:12.1f}")
            wrong.append(f"{name} is not in {FIGURES.relative_to(ROOT)}")
            continue
        change = 100 * (figure - before[name]) / before[name]
        print(f"{name:24}{before[name]:12.1f}{figure:12.1f}{change:+9.2f} %")
        if change > PERCENT_MAX:
            wrong.append(f"{name} takes {change:.1f} % more instructions: {figure:.1f} instead of {before[name]:.1f}")
        elif change < -PERCENT_MAX:
            better.append(name)
    if not wanted:
        wrong += [f"{name} is committed and not counted any more" for name in before if name not in now]
    if not judged:
        print(f"not judged: the figures are of {by}, this is {compiler()}; --bless writes them anew")
        return
    if better:
        print(f"better than committed, so that a loss of as much would pass: {', '.join(better)}; --bless writes it down")
    if wrong:
        print("\n".join(wrong))
        fail(f"over {PERCENT_MAX:.0f} % more than committed, or not comparable. If it is worth it, say why in the commit and "
             "write the figures anew: loadtest/instructions.py --bless")


def main():
    wanted = [argument for argument in sys.argv[1:] if argument != "--bless"]
    if any(argument.startswith("-") for argument in wanted):
        fail(f"usage:\n{__doc__}")
    now = counted(the_program(), wanted)
    if "--bless" in sys.argv[1:]:
        bless(now, wanted)
    else:
        compare(now, wanted)


if __name__ == "__main__":
    main()

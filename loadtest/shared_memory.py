#!/usr/bin/env python3
"""Shows what two workers of the activator share, by counting: which lines of memory one writes and the other touches.

    loadtest/shared_memory.py               fails when a warm request shares more than is named here
    loadtest/shared_memory.py --accesses    prints them, with the addresses of the instructions

Two workers on two threads, with a revision and its replicas in common, serve requests in turn under valgrind's lackey, which
reports every access to memory. A line of 64 bytes that one of them writes in its turn and the other reads or writes in its own
would go to and fro between two cores. Where there is none, two cores do the work of two; and that is seen on any machine,
however many cores it has and however busy it is.

Needs valgrind, and target/release/instructions; INSTRUCTIONS names another one. Only the standard library of Python 3.8.
"""

import subprocess
import sys
from collections import Counter, defaultdict

from instructions import the_program

# Requests a turn.
TIMES = 20
LINE_BYTES = 64
# How many lines may be shared. None where there is no limit; with one, the places at the replicas belong to all workers: the
# lock, what it guards, and what it lets others see.
CASES = [("no limit", [], 0), ("container-concurrency 10", ["--limit", "10"], 12)]


def fail(message):
    sys.exit(f"shared_memory.py: {message}")


def traced(program, flags):
    """The accesses of each worker in its turns: (worker, writes?, line, address of the instruction)."""
    tool = ["valgrind", "-q", "--tool=lackey", "--trace-mem=yes", program, "--two-workers", str(TIMES), *flags]
    try:
        run = subprocess.Popen(tool, stderr=subprocess.PIPE)
    except FileNotFoundError:
        fail("valgrind is not there")
    worker, at = None, b""
    for text in run.stderr:
        kind = text[:2]
        if kind == b"tu":
            worker = int(text.split()[1])
        elif kind == b"ov":
            worker = None
        elif worker is None:
            continue
        elif kind == b"I ":
            at = text[3:].split(b",")[0]
        elif kind in (b" L", b" S", b" M"):
            address, size = text[3:].split(b",")
            first = int(address, 16)
            for line in range(first // LINE_BYTES, (first + int(size) - 1) // LINE_BYTES + 1):
                yield worker, kind != b" L", line, at
    if run.wait() != 0:
        fail(f"{' '.join(tool)} ended with {run.returncode}")


def shared(program, flags):
    """Lines that one worker writes and the other touches, and all accesses of both to each."""
    touched, writers, accesses, total = defaultdict(set), defaultdict(set), defaultdict(Counter), 0
    for worker, writes, line, at in traced(program, flags):
        total += 1
        touched[line].add(worker)
        if writes:
            writers[line].add(worker)
        accesses[line][(worker, writes, at)] += 1
    if total == 0:
        fail("nothing was traced")
    lines = {line: accesses[line] for line in touched if len(touched[line]) == 2 and writers[line]}
    return total, len(touched), lines


def main():
    verbose = sys.argv[1:] == ["--accesses"]
    if sys.argv[1:] and not verbose:
        fail(f"usage:\n{__doc__}")
    program, wrong = the_program(), []
    requests = 2 * TIMES
    print(f"{'':26}{'accesses a request':>20}{'lines touched':>16}{'shared':>8}{'accesses to them a request':>28}")
    for name, flags, at_most in CASES:
        total, touched, lines = shared(program, flags)
        theirs = sum(sum(counts.values()) for counts in lines.values())
        print(f"{name:26}{total / requests:20.0f}{touched:16}{len(lines):8}{theirs / requests:28.1f}")
        if verbose:
            for line, counts in sorted(lines.items()):
                print(f"  {line * LINE_BYTES:#x}")
                for (worker, writes, at), count in sorted(counts.items()):
                    print(f"    worker {worker} {'writes' if writes else 'reads'} {count} times at {at.decode()}")
        if len(lines) > at_most:
            wrong.append(f"{name}: {len(lines)} lines that one worker writes are touched by the other; at most {at_most}")
    if wrong:
        fail("\n".join(wrong))


if __name__ == "__main__":
    main()

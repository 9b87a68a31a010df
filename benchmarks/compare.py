"""Compare two files of measurements and list the rows that got worse.

Exit status: 0 no row got worse, 1 at least one did, 2 the files cannot be compared.

    python benchmarks/compare.py before.json after.json
"""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from common import Row, number, read

THRESHOLD = 0.1


def worsening(before: Row, after: Row) -> float:
    """Return the fraction by which a row got worse: 0.25 if 1 s became 1.25 s, or 100/s became 80/s.

    Negative if it got better, 0 for a row without a better direction.
    """
    if before.better is None:
        return 0.0
    old, new = (before.value, after.value) if before.better == "less" else (after.value, before.value)
    return new / old - 1 if old > 0 else 0.0


def compare(
    before: Mapping[str, Row], after: Mapping[str, Row], threshold: float
) -> Iterator[tuple[str, float | None, str]]:
    """Yield (remark, worsening or None if not compared, name) of every row."""
    for name in dict.fromkeys([*before, *after]):
        if name not in after:
            yield "gone", None, name
        elif name not in before:
            yield "new", None, name
        elif before[name].setting != after[name].setting or before[name].unit != after[name].unit:
            yield "other setting, not compared", None, name
        else:
            worse = worsening(before[name], after[name])
            yield ("WORSE" if worse > threshold else "better" if worse < -threshold else ""), worse, name


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """List the keys in which two descriptions differ."""
    keys = dict.fromkeys([*before, *after])
    return [
        f"{key}: {before.get(key)} -> {after.get(key)}" for key in keys if before.get(key) != after.get(key)
    ]


def main(args: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("before", type=Path, help="the file to compare with")
    parser.add_argument("after", type=Path, help="the file to check")
    parser.add_argument(
        "--threshold", type=float, default=THRESHOLD, help="accepted worsening (default: 0.1)"
    )
    parser.add_argument("--other_machine", action="store_true", help="compare different machines")
    options = parser.parse_args(args)
    try:
        before, after = read(options.before), read(options.after)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    apart = differences(before["machine"], after["machine"])
    if apart and not options.other_machine:
        lines = "\n  ".join(apart)
        print(f"error: the machines differ (to compare anyway: --other_machine):\n  {lines}", file=sys.stderr)
        return 2
    for line in [*apart, *differences(before["versions"], after["versions"])]:
        print(line)
    print(f"{before['commit']} (load {before['load']}) -> {after['commit']} (load {after['load']})\n")
    old, new = ({row.name: row for row in each["rows"]} for each in (before, after))
    found = list(compare(old, new, options.threshold))
    width = max((len(name) for _, _, name in found), default=0)
    for remark, worse, name in found:
        values = " -> ".join(number(rows[name].value) if name in rows else "none" for rows in (old, new))
        unit = (new.get(name) or old[name]).unit
        change = "" if worse is None else f"{worse:+.0%} worse" if worse > 0 else f"{-worse:+.0%} better"
        print(f"{name:{width}}  {f'{values} {unit}':32} {change:13} {remark}".rstrip())
    worse_rows = [name for remark, _, name in found if remark == "WORSE"]
    print(f"\n{len(worse_rows)} of {len(found)} rows got worse by more than {options.threshold:.0%}")
    return 1 if worse_rows else 0


if __name__ == "__main__":
    raise SystemExit(main())

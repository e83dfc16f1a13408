"""Prints the table of docs/proof/README.md, measured: `python -m tests.proof.table`."""

from __future__ import annotations

import tempfile
from pathlib import Path

from .checks import GROUPS, Check
from .spin import Found, search


def cells(check: Check) -> tuple[str, str, str]:
    """What stands in the table without a measurement: flags, question, result."""
    return check.flags, check.ask.value, check.expected.value


def main() -> None:
    total = 0.0
    for name, checks in GROUPS.items():
        print(f"\n**{name}**\n")
        print("| configuration | asks for | finds | states | seconds |\n|---|---|---|---|---|")
        for check in checks:
            with tempfile.TemporaryDirectory() as directory:
                result = search(
                    check.flags, check.ask, Path(directory), limit=600, large=check.long
                )
            flags, ask, found = check.flags, check.ask.value, result.found.value
            if result.found is not Found.NOTHING:
                found = f"**{found}**"
            total += result.seconds
            print(
                f"| `{flags}` | {ask} | {found} | {result.states:,} | {result.seconds:.1f} |",
                flush=True,
            )
    print(f"\n{total:.0f} seconds in all")


if __name__ == "__main__":
    main()

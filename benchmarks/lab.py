"""How long lab hosts take until every sshd answers, and how long their teardown takes. The base image stands before."""

from __future__ import annotations

import argparse
import json
import time

from heavylift.lab import Lab


def main() -> None:
    """Make and take away N hosts, a few times for each N."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", type=int, nargs="+", default=[1, 2, 4, 16])
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    lab = Lab("bench")
    lab.build_base()
    for count in arguments.hosts:
        ups, downs = [], []
        for _ in range(arguments.runs):
            began = time.perf_counter()
            lab.up(count)
            ups.append(time.perf_counter() - began)
            began = time.perf_counter()
            lab.down()
            downs.append(time.perf_counter() - began)
        row = {"hosts": count, "up_s": [round(s, 2) for s in ups], "down_s": [round(s, 2) for s in downs]}
        print(json.dumps({**row, "least_up_s": min(row["up_s"])}))


main()

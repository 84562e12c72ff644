"""`heavylift-host COMMAND JSON`: the zip application's way in."""

from __future__ import annotations

import json
import sys

from . import checkpoint, fetch, gate, job, lock, look, place, remove, status, unit, verify

COMMANDS = {
    "check": checkpoint.check_main,
    "fetch": fetch.begin_main,
    "fetch-run": fetch.run_main,
    "fetch-state": fetch.state_main,
    "gate": gate.main,
    "job": job.main,
    "lock": lock.main,
    "look": look.main,
    "place": place.main,
    "publish": checkpoint.publish_main,
    "remove": remove.main,
    "secret": place.secret_main,
    "stage": checkpoint.stage_main,
    "start": unit.start_main,
    "status": status.main,
    "stop": unit.stop_main,
    "verify": verify.main,
    "weights": verify.status_main,
}


def main() -> int:
    """Run one command; an expected failure is one line on stderr."""
    command, query = sys.argv[1], json.loads(sys.argv[2]) if len(sys.argv) > 2 else {}
    try:
        answer = COMMANDS[command](query)
    except (OSError, ValueError, RuntimeError) as error:
        print(f"heavylift: {error}", file=sys.stderr, flush=True)
        return 1
    except KeyboardInterrupt:
        return 130
    if answer is not None:
        print(json.dumps(answer, sort_keys=True), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

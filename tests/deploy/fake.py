"""pyinfra inventory of `@fake` hosts: no machine is behind them, every command is answered here and written down.

The test writes `$HEAVYLIFT_FAKE`, a JSON document {host: {"look": what the host shows, "fail": part of a command}},
from `tests/apply/hosts.py`. A command that contains ` look ` is answered with that document, as the host program would
answer it; one that contains `fail` fails with a line of the host program's kind; all others succeed and say nothing.
What was run, or uploaded, goes line by line to `$HEAVYLIFT_FAKE.log` as [host, command].
"""

import json as _json
import os as _os
from pathlib import Path as _Path

from pyinfra.connectors.fake import FakeConnector as _Fake

_file = _Path(_os.environ["HEAVYLIFT_FAKE"])
_answers = _json.loads(_file.read_text(encoding="utf-8"))


def _note(host, command):
    with _Path(f"{_file}.log").open("a", encoding="utf-8") as log:
        log.write(_json.dumps([host.name, command]) + "\n")


def _data(answer):
    fail = {answer["fail"]: {"success": False, "stderr": ["heavylift: it broke"]}} if answer.get("fail") else {}
    return {
        "fake_responses": {" look ": [_json.dumps(answer["look"])], **fail},
        "fake_delay": 0,
        "fake_delay_jitter": 0,
    }


class _Noted:
    """The fake's own methods, which also write down what they are asked for."""

    run, put = _Fake.run_shell_command, _Fake.put_file

    def shell(self, command, *rest, **options):
        """Run a command."""
        _note(self.host, command if isinstance(command, str) else command.get_masked_value())
        return _Noted.run(self, command, *rest, **options)

    def upload(self, content, path, *rest, **options):
        """Upload a file."""
        _note(self.host, f"upload {path}")
        return _Noted.put(self, content, path, *rest, **options)


_Fake.run_shell_command, _Fake.put_file = _Noted.shell, _Noted.upload
hosts = [(name, _data(answer)) for name, answer in _answers.items()]

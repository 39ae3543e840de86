"""The Fireworks flow without a key: `python -m scripts.demo_fireworks [doit run's options]`, or `make demo-fireworks`.

Starts a server of Fireworks' protocol on this machine and becomes `doit run --config config/demo_fireworks.yaml` against it. Kill it
whenever you like and start it again: the server's memory lies in a file, and its last line counts what was billed twice.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from pipeline.base.errors import StepError
from pipeline.layout import find_root
from scripts.edge import command

CONFIG = "config/demo_fireworks.yaml"


def start_server(root: Path, config: Mapping[str, Any], memory: Path) -> int:
    """Start the server beside us. It lives as long as somebody holds the pipe whose descriptor is returned: this process, or what
    it becomes.

    Raises StepError where it cannot listen.
    """
    read_end, write_end = os.pipe()
    memory.parent.mkdir(parents=True, exist_ok=True)
    port = str(config["provider"]["base_url"]).rsplit(":", 1)[1]
    answers = [source["path"] for kind in config["sources"].values() for source in kind]
    call = [sys.executable, "-m", "tests.servers.fireworks", "--port", port, "--state", str(memory), "--until-eof", "--answers", *answers]
    # A session of its own: Ctrl-C is meant for the run, which still needs the server to stop softly.
    server = subprocess.Popen(call, cwd=root, stdin=read_end, stdout=subprocess.PIPE, start_new_session=True)
    os.close(read_end)
    assert server.stdout is not None
    if not server.stdout.readline().startswith(b"listening on "):
        raise StepError("the demonstration's server did not start", where=CONFIG, remedy=f"Is port {port} taken by something else?")
    os.set_inheritable(write_end, True)
    return write_end


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Start the server, then become `doit run` with the arguments given."""
    arguments = sys.argv[1:] if argv is None else argv
    root = find_root()
    config = yaml.safe_load(Path(root, CONFIG).read_text("utf-8"))
    start_server(root, config, Path(root, "experiments", "demo_fireworks_server.db"))
    environment = {**os.environ, "FIREWORKS_API_KEY": "demo-key-for-this-machine"}
    call = [sys.executable, "-m", "doit", "run", "--config", CONFIG, *arguments]
    sys.stdout.flush()
    os.chdir(root)
    os.execve(sys.executable, call, environment)


if __name__ == "__main__":
    sys.exit(main())

"""`doit` as a child that announces its checkpoints, held at one of them."""

from __future__ import annotations

import os
import threading

from pipeline.base.checkpoints import VARIABLE
from tests.project import Project


class Striker:
    """Listens to the checkpoints of a child, lets it go on, and holds it at one."""

    def __init__(self, project: Project, *words: str) -> None:
        to_parent, at_child = os.pipe()
        from_child, go = os.pipe()
        self.child = project.child(*words, env={VARIABLE: f"{at_child},{from_child}"}, pass_fds=(at_child, from_child))
        os.close(at_child)
        os.close(from_child)
        self._read, self._go = os.fdopen(to_parent), go

    def hold(self, name: str, nth: int = 1) -> None:
        """Wait until the child stands at checkpoint `name` for the nth time."""
        for line in self._read:
            if line.strip() == name:
                nth -= 1
                if not nth:
                    return
            os.write(self._go, b".")
        out, err = self.child.communicate()
        raise AssertionError(f"the child never came to {name}: {out}{err}")

    def let_go(self) -> tuple[str, str]:
        """Let the child run on to its end."""

        def nod() -> None:
            for _ in self._read:
                os.write(self._go, b".")

        listener = threading.Thread(target=nod)
        os.write(self._go, b".")
        listener.start()
        said = self.child.communicate(timeout=600)
        listener.join()
        return said

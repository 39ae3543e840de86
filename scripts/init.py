"""Write the config of an experiment of your own from two system prompts and a data file: asks, or takes flags."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from pipeline.base.digests import sha256_file
from pipeline.base.errors import AbidingError, UsageError
from pipeline.base.files import write_atomic
from pipeline.layout import find_root
from scripts import init_config
from scripts.edge import Parser, command
from scripts.init_data import Data, examine, locate

PROVIDERS = ("local", "fireworks", "openai", "anthropic", "openai_compatible", "vllm_file")
BUNDLED_MODEL = "SmolLM2-135M-Instruct"


def parser() -> argparse.ArgumentParser:
    """The command line of this script."""
    p = Parser(prog="python -m scripts.init", description=__doc__)
    p.add_argument("--control", metavar="FILE|TEXT", help="the control's system prompt, a file or the text itself; '' for none")
    p.add_argument("--treatment", metavar="[NAME=]FILE|TEXT", action="append", help="the treatment's system prompt; may be repeated")
    p.add_argument("--data", metavar="FILE", help="questions: .csv, .tsv or .jsonl, or an official file with --kind")
    p.add_argument("--kind", choices=("csv", "jsonl", "squad_v2", "nq_open", "triviaqa"), help="default: by the file's name")
    p.add_argument("--type", choices=("open", "closed"), help="open book (with passages) or closed book; default: by the data")
    p.add_argument("--columns", metavar="question=NAME,answers=NAME,...", help="which column means what, where the names differ")
    p.add_argument("--delimiter", metavar="CHAR", help="between the cells of a CSV; default: a comma, a tab for .tsv")
    p.add_argument("--answer_separator", metavar="TEXT", help="splits a cell into several right answers")
    p.add_argument("--dataset", metavar="NAME", help="name of the data set in the results; default: the file's name")
    p.add_argument("--instruction", metavar="FILE|TEXT", help="Jinja2 template of the user turn; default: the bundled one of the type")
    p.add_argument("--provider", choices=PROVIDERS, help="default: local")
    p.add_argument("--model", metavar="ID", help=f"model id, by the provider's name (local: {BUNDLED_MODEL}, or a .gguf file)")
    p.add_argument("--base_url", metavar="URL", help="of an openai_compatible provider")
    p.add_argument("--price", metavar="IN,OUT", help="dollars per million tokens; without it a paid provider runs unpriced")
    p.add_argument("--max_items", type=int, metavar="N", help="ask at most so many, drawn at random")
    p.add_argument("--metric", metavar="[NAME=]USE", action="append", default=[], help="built-in or module:function; the first is primary")
    p.add_argument("--range", metavar="LOW,HIGH", help="of the metrics: an answer that failed or was cut then counts as the worst")
    p.add_argument("--subgroup", metavar="NAME", action="append", default=[], help="column of meta whose groups are compared")
    p.add_argument("--margin", type=float, help="the smallest difference in accuracy that matters, such as 0.05")
    p.add_argument("--out", metavar="FILE", type=Path, help="default: config/my_experiment.yaml")
    p.add_argument("--force", action="store_true", help="overwrite what is there")
    return p


def ask(question: str, default: str | None = None, check: Callable[[str], object] = str) -> str:
    """An answer from the terminal, asked for again while `check` raises UsageError. Raises UsageError where nobody is there to give one."""
    while True:
        try:
            given = input(f"{question}{f' [{default}]' if default else ''}: ").strip() or default or ""
        except EOFError:
            raise UsageError("no answer came", remedy="Give flags: python -m scripts.init --help") from None
        try:
            check(given)
        except UsageError as e:
            print(f"  {e}")
        else:
            return given


def ask_for_the_rest(args: argparse.Namespace, root: Path) -> None:
    """Ask for what the flags left open. Each answer is checked at once, so that no mistake costs the answers before it."""
    with contextlib.suppress(ImportError):  # arrow keys and history in the answers, where Python has it
        importlib.import_module("readline")
    if args.control is None:
        args.control = ask("Control: file or text of its system prompt (empty for none)", check=lambda t: is_file(t, root, "--control"))
    if args.treatment is None:
        args.treatment = [ask("Treatment: file or text of its system prompt", check=lambda t: is_file(t, root, "--treatment"))]
    args.data = args.data or ask(
        "Questions: a .csv, .tsv or .jsonl file", "config/sample/closed_book.jsonl", lambda t: locate(t, args.kind, root)
    )
    args.provider = args.provider or ask(f"Provider ({', '.join(PROVIDERS)})", "local", known_provider)
    if args.provider != "local":
        args.model = args.model or ask("Model, by the provider's name", check=lambda t: known_model(t, args.provider))
        asked = "Dollars per million tokens, IN,OUT (empty: unknown)"
        args.price = args.price or ask(asked, check=lambda t: t and init_config.parse_price(t)) or None
    if args.provider == "openai_compatible":
        args.base_url = args.base_url or ask("Base URL", "http://127.0.0.1:8000/v1")
    args.out = args.out or Path(ask("Write the config to", "config/my_experiment.yaml", lambda t: free(root / t, root, args.force)))


def known_provider(name: str) -> None:
    """Raises UsageError where there is no such provider."""
    if name not in PROVIDERS:
        raise UsageError(f"there is no provider {name!r}", remedy=f"Use one of {', '.join(PROVIDERS)}.")


def known_model(model: str | None, provider: str) -> None:
    """Raises UsageError where no model is named."""
    if not model:
        raise UsageError(f"which model of {provider}?", where="--model", remedy="Give its id, by the provider's name.")


def free(path: Path, root: Path, force: bool) -> None:
    """Raises UsageError where a file is there already, unless with --force, and where none can be."""
    file = next((p for p in path.parents if p.exists() and not p.is_dir()), None)
    if path.is_dir() or file is not None:
        fact = "is a folder" if file is None else f"{relative(file, root)} is no folder"
        raise UsageError(fact, where=relative(path, root), remedy="Name a file: --out config/my_experiment.yaml")
    if path.exists() and not force:
        raise UsageError("is there already", where=relative(path, root), remedy="Choose another --out, or overwrite it with --force.")


def complete(args: argparse.Namespace, root: Path, interactive: bool) -> None:
    """Fill in what the flags left open, by asking or by the defaults. Raises UsageError naming the flags that are needed."""
    needed = [name for name in ("control", "treatment", "data") if getattr(args, name) is None]
    if needed and not interactive:
        raise UsageError(f"missing: {', '.join('--' + name for name in needed)}", remedy="Give them, or run it in a terminal to be asked.")
    if needed:
        ask_for_the_rest(args, root)
    args.provider = args.provider or "local"
    args.out = args.out or Path("config/my_experiment.yaml")
    args.model = args.model or (BUNDLED_MODEL if args.provider == "local" else None)
    known_model(args.model, args.provider)
    if args.provider == "openai_compatible" and not args.base_url:
        raise UsageError("where is the server?", where="--base_url", remedy="Give it, as in http://127.0.0.1:8000/v1")
    if args.max_items is not None and args.max_items < 1:
        raise UsageError(f"{args.max_items} is no number of items", where="--max_items", remedy="Give 1 or more.")


def is_file(given: str, root: Path, flag: str) -> bool:
    """Whether a FILE|TEXT argument names a file. Raises UsageError where it looks like a path but nothing is there."""
    if not given.strip() or "\n" in given or len(given) > 1000:
        return False
    if (root / given).is_file():
        try:
            (root / given).read_text("utf-8")
        except UnicodeDecodeError as e:
            fact = f"not UTF-8: byte {e.start + 1} is 0x{e.object[e.start]:02x}"
            raise UsageError(fact, where=given, remedy="Save it as UTF-8.") from None
        return True
    if not re.search(r"\s", given) and re.search(r"/|\.(txt|md|j2|jinja)$", given):
        raise UsageError(f"there is no file {given}", where=flag, remedy="Mend the path, or give the text itself.")
    return False


def relative(path: Path, root: Path) -> str:
    """A path as a config names it: relative to the project's folder where it lies below it."""
    full = (root / path).resolve()
    return full.relative_to(root).as_posix() if full.is_relative_to(root) else str(full)


def arms(args: argparse.Namespace, root: Path, texts: dict[Path, str]) -> dict[str, str | None]:
    """Arm name -> prompt file (None for no system prompt), the control first; texts to be written are added to `texts`."""
    found: dict[str, str | None] = {}
    for number, given in enumerate([args.control, *args.treatment]):
        flag = "--treatment" if number else "--control"
        named = re.match(r"([A-Za-z0-9][\w.-]*)=", given) if number else None
        prompt = given[named.end() :] if named else given
        file = is_file(prompt, root, flag)
        name = "control" if not number else named[1] if named else Path(prompt).stem if file else "treatment"
        name = re.sub(r"[^A-Za-z0-9_.-]", "_", name).lstrip("_.-") or "treatment"
        if name in found and not named:
            name = next(f"{name}_{n}" for n in range(2, len(args.treatment) + 3) if f"{name}_{n}" not in found)
        if name in found:
            raise UsageError(f"two arms are called {name!r}", where=flag, remedy="Name them: --treatment NAME=FILE.")
        if file:
            found[name] = relative(Path(prompt), root)
        elif not prompt.strip():
            found[name] = None
        else:
            path = Path("config/prompts") / args.out.stem / f"{name}.txt"
            texts[root / path] = prompt.strip() + "\n"
            found[name] = path.as_posix()
    return found


def check_analysis(args: argparse.Namespace, data: Data, root: Path) -> None:
    """Raise AbidingError where a metric cannot be had or a subgroup is no column of every item."""
    from pipeline.scoring.metrics import load
    from pipeline.scoring.settings import ScoringSettings

    for metric in ScoringSettings.from_config({"metrics": init_config.metrics(args.metric, args.range)}).metrics:
        load(metric, root)
    for name in args.subgroup:
        if lacking := next((item for item in data.items if name not in item.meta), None):
            known = ", ".join(lacking.meta) or "none"
            raise UsageError(f"item {lacking.id!r} has no {name!r} in its meta", where="--subgroup", remedy=f"It has: {known}.")


def instruction(args: argparse.Namespace, data: Data, root: Path, texts: dict[Path, str]) -> str:
    """The file of the user turn's template."""
    if args.instruction is None:
        return f"config/task_instructions/{data.type}_book.txt"
    if is_file(args.instruction, root, "--instruction"):
        return relative(Path(args.instruction), root)
    path = Path("config/task_instructions") / f"{args.out.stem}.txt"
    texts[root / path] = args.instruction.strip() + "\n"
    return path.as_posix()


def make(args: argparse.Namespace, root: Path, interactive: bool) -> list[str]:
    """Write prompts and config; returns what to tell. Raises AbidingError where something is wrong; then no new file is left."""
    from pipeline.config import load
    from pipeline.experiment import Experiment
    from pipeline.sources.templates import compile, turns

    complete(args, root, interactive)
    out = root / args.out
    texts: dict[Path, str] = {}
    named = arms(args, root, texts)
    data = examine(args, root, ask if interactive else None)
    template = instruction(args, data, root, texts)
    text = texts.get(root / template) or (root / template).read_text("utf-8")
    compiled = compile(text, template)
    for item in data.items:
        turns(compiled, item)
    check_analysis(args, data, root)
    for path, wanted in [*texts.items(), (out, None)]:
        if wanted is None or not path.is_file() or path.read_text("utf-8") != wanted:
            free(path, root, args.force)
    check = out.with_name(f".{out.name}.check")
    written = [path for path in texts if not path.exists()]
    try:
        for path, wanted in texts.items():
            write_atomic(path, wanted)
        write_atomic(check, init_config.compose(args, named, data, template))
        experiment = Experiment(load(check, root), sha256_file)  # all that can be checked without asking anybody
        check.replace(out)
    except AbidingError:
        for path in written:
            path.unlink(missing_ok=True)
        raise
    finally:
        check.unlink(missing_ok=True)
    asked = min(len(data.items), args.max_items or len(data.items)) * len(named)
    shown, trials = relative(out, root), len(experiment.trials)
    return [
        f"{shown}: {len(named)} arms ({', '.join(named)}), {trials} comparison{'s' * (trials > 1)}, {asked} requests to {args.provider}",
        f"data: {data.summary()}",
        *(f"written: {relative(path, root)}" for path in texts),
        f"try it without a model:  doit run --dry_run --config {shown}",
        f"run it:                  doit run --config {shown}",
    ]


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run; returns the exit code (0, or 2 with one line on stderr)."""
    args = parser().parse_args(argv)
    try:
        for line in make(args, find_root(), sys.stdin.isatty()):
            print(line)
    except KeyboardInterrupt:
        print("\ninterrupted; nothing was written", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The completion scripts of `doit tabcompletion`: commands, steps, sub-tasks, options and their values, for bash and zsh.

doit's own scripts know neither options (bash) nor what an option takes (zsh), and a quote in a help text breaks them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pipeline.engine.helping import HIDDEN, text_of
from pipeline.records.run_state import STEPS

FILES = ("config", "file", "output-file")
FOLDERS = ("experiments_dir", "dir")
VALUES = {
    **dict.fromkeys(("from_step", "to_step", "only_step"), STEPS),
    "condition": ("control", "treatment", "both"),
    "require": ("better", "equivalent", "not_inferior"),
    "shell": ("bash", "zsh"),
}

BASH = """# bash completion for doit, made by `doit tabcompletion --shell bash`; it needs the package bash-completion
_doit() {{
    local cur prev words cword flags i config=()
    COMPREPLY=()
    _get_comp_words_by_ref -n : cur prev words cword
    case "$prev" in
{values}
    esac
    if [[ "$cur" == -* ]]; then
        case "${{words[1]}}" in
{flags}
        esac
        COMPREPLY=( $(compgen -W "$flags" -- "$cur") )
        return
    fi
    for (( i=1; i < cword; i++ )); do
        if [[ "${{words[i]}}" == --config ]]; then config=(--config "${{words[i+1]}}"); fi
    done
    if [[ "$cur" == *:* ]]; then
        COMPREPLY=( $(compgen -W "$(doit list --quiet --all "${{config[@]}}" 2>/dev/null)" -- "$cur") )
        __ltrim_colon_completions "$cur"
        return
    fi
    if (( cword == 1 )) || [[ "${{words[1]}}" == help ]]; then flags="{commands}"; fi
    COMPREPLY=( $(compgen -W "$flags $(doit list --quiet "${{config[@]}}" 2>/dev/null)" -- "$cur") )
}}
complete -F _doit doit
"""

ZSH = """#compdef doit
# zsh completion for doit, made by `doit tabcompletion --shell zsh`
_doit_tasks() {{
    local -a config
    local i=${{words[(i)--config]}}
    if (( i < $#words )); then config=(--config $words[i+1]); fi
    if [[ $PREFIX == *:* ]]; then config+=(--all); fi
    compadd -- ${{${{(f)"$(doit list --quiet $config 2>/dev/null)"}}%% *}}
}}

_doit() {{
    local -a commands flags
    commands=(
{commands}
    )
    if (( CURRENT == 2 )); then
        _describe command commands
        _doit_tasks
        return
    fi
    case $words[2] in
{flags}
    esac
    shift words
    (( CURRENT-- ))
    _arguments -S $flags '*:task:_doit_tasks'
}}

_doit "$@"
"""


def _options(command: Any) -> list[Any]:
    return [o for o in command.get_options() if (o.short or o.long) and o.name not in HIDDEN]


def _forms(option: Any) -> list[str]:
    return [f"-{option.short}"] * bool(option.short) + [f"--{option.long}"] * bool(option.long)


def bash(commands: Mapping[str, Any]) -> str:
    """The script for bash."""
    options = [option for command in commands.values() for option in _options(command)]
    plain = {form for option in options if option.type is bool for form in _forms(option)}  # -n takes a number of run, nothing of clean
    taking = {form: option for option in options for form in _forms(option) if form not in plain}
    values = [f"        {form}) {_bash_value(option)}return ;;" for form, option in taking.items()]
    flags = [f'            {name}) flags="{" ".join(_words(_options(c)))}" ;;' for name, c in commands.items()]
    flags.append(f'            *) flags="{" ".join(_words(_options(commands["run"])))}" ;;')
    return BASH.format(values="\n".join(values), flags="\n".join(flags), commands=" ".join(commands))


def _words(options: Iterable[Any]) -> list[str]:
    return [form for option in options for form in _forms(option)]


def _bash_value(option: Any) -> str:
    if option.long in FILES:
        return "_filedir; "
    if option.long in FOLDERS:
        return "_filedir -d; "
    if option.long in VALUES:
        return f'COMPREPLY=( $(compgen -W "{" ".join(VALUES[option.long])}" -- "$cur") ); '
    return ""


def zsh(commands: Mapping[str, Any]) -> str:
    """The script for zsh."""
    described = [f"        {_quoted(f'{name}:{command.doc_purpose}')}" for name, command in commands.items()]
    flags = [f"        ({name}) flags=(\n{_zsh_flags(_options(c))}\n        ) ;;" for name, c in commands.items()]
    flags.append(f"        (*) flags=(\n{_zsh_flags(_options(commands['run']))}\n        ) ;;")
    return ZSH.format(commands="\n".join(described), flags="\n".join(flags))


def _zsh_flags(options: Sequence[Any]) -> str:
    lines = []
    for option in options:
        text = text_of(option).replace("[", r"\[").replace("]", r"\]")
        takes = "" if option.type is bool else f":value:{_zsh_value(option)}"
        lines += [f"            {_quoted(f'{form}[{text}]{takes}')}" for form in _forms(option)]
    return "\n".join(lines)


def _zsh_value(option: Any) -> str:
    if option.long in FILES:
        return "_files"
    if option.long in FOLDERS:
        return "_files -/"
    return f"({' '.join(VALUES[option.long])})" if option.long in VALUES else " "


def _quoted(text: str) -> str:
    return "'" + text.replace("'", r"'\''") + "'"

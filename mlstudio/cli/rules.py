"""`mlstudio rules`: numbers in printed lines that are not found by themselves."""

from __future__ import annotations

import re

import click

from mlstudio.cli.options import complete_runs, json_option
from mlstudio.cli.safe_text import cut, safe_line
from mlstudio.cli.session import Session, pass_session
from mlstudio.model.errors import RequestError
from mlstudio.services.printed import Printed
from mlstudio.services.printed_rules import parse_rule, suggest_rule
from mlstudio.services.rule_book import RulePreview
from mlstudio.services.words import count_text, number_text

_EXAMPLES = """\b
Examples:
  mlstudio rules add 'it 12/100 L=0.53 A=91.2% 12ms'
  mlstudio rules add 'it 12/100 L=0.53 A=91.2% 12ms' --name L=loss --name A=acc
  mlstudio rules add 'it {step}/{*} L={loss} A={acc}%'
  mlstudio rules try 'L={loss}' 7        what it would catch in run 7
  mlstudio rules apply 7                 take it there too
  mlstudio rules rm 1
"""


@click.group("rules", invoke_without_command=True, epilog=_EXAMPLES)
@click.pass_context
def command(ctx: click.Context) -> None:
    """Find numbers in printed lines by an example.

    Most lines need no rule: `epoch 3 loss 0.12`, progress bars, dictionaries and many more are understood. A rule is a
    line with names for its numbers: {name} is a number, {step} and {epoch} say where it belongs, {*} is anything.
    """
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_rules)


@command.command("list")
@json_option
@pass_session
def list_rules(session: Session) -> None:
    """The rules, newest first. The first one that fits a line reads it."""
    rules = session.studio.rules.rules()
    if session.wants_json:
        session.put_json({"rules": [{"rule": rule, "names": parse_rule(rule).names} for rule in rules]})
        return
    if not rules:
        session.say("There are no rules. `mlstudio rules add 'a line that your script prints'` makes one.")
    for number, rule in enumerate(rules, start=1):
        session.say(f"{number:>3}  {safe_line(rule)}")


@command.command("add")
@click.argument("line")
@click.option(
    "-n",
    "--name",
    "names",
    multiple=True,
    metavar="OLD=NEW",
    help="Another name for a number that was named by the line.",
)
@click.option("--run", "run", metavar="RUN", shell_complete=complete_runs, help="Show what it catches there.")
@json_option
@pass_session
def add_rule(session: Session, line: str, names: tuple[str, ...], run: str | None) -> None:
    """Make a rule of LINE, a line that your script prints (or a rule as it is written, with {names})."""
    rule = _renamed(line if _is_rule(line) else suggest_rule(line), names)
    book = session.studio.rules
    preview = None if run is None else book.preview(rule, session.studio.runs.resolve(run))
    kept = book.add(rule)
    found = None if _is_rule(line) else parse_rule(kept).match(line)
    if session.wants_json:
        session.put_json({"rule": kept, "found": found, "preview": preview})
        return
    session.say(f"Rule: {safe_line(kept)}")
    if found is not None:
        session.say(f"In your line it finds {_words(found)}.")
    if preview is not None:
        _say_preview(session, preview)
    session.say("It holds for runs from now on; `mlstudio rules apply RUN` is for those that are over.")


@command.command("try")
@click.argument("line")
@click.argument("run", metavar="RUN", shell_complete=complete_runs)
@click.option("-n", "--name", "names", multiple=True, metavar="OLD=NEW", help="As in `rules add`.")
@json_option
@pass_session
def try_rule(session: Session, line: str, run: str, names: tuple[str, ...]) -> None:
    """Say what a rule would catch in what RUN printed, and keep nothing."""
    rule = _renamed(line if _is_rule(line) else suggest_rule(line), names)
    preview = session.studio.rules.preview(rule, session.studio.runs.resolve(run))
    if session.wants_json:
        session.put_json(preview)
        return
    session.say(f"Rule: {safe_line(preview.rule)}")
    _say_preview(session, preview)


@command.command("apply")
@click.argument("run", metavar="RUN", shell_complete=complete_runs)
@json_option
@pass_session
def apply_rules(session: Session, run: str) -> None:
    """Take what the rules find in the output of RUN, which is over, as series of it. Twice adds nothing."""
    found = session.studio.rules.apply(session.studio.runs.resolve(run))
    if session.wants_json:
        session.put_json({"series": found})
        return
    for name, count in found.items():
        session.say(f"{safe_line(name)}: {count_text(count, 'point')}.")
    if not found:
        session.say("The rules find nothing new there.")


@command.command("rm")
@click.argument("rule", metavar="NUMBER")
@json_option
@pass_session
def remove_rule(session: Session, rule: str) -> None:
    """Forget a rule. What it found stays."""
    removed = session.studio.rules.remove(rule)
    if session.wants_json:
        session.put_json({"removed": removed})
    else:
        session.say(f"Removed: {safe_line(removed)}")


def _is_rule(line: str) -> bool:
    """Whether it is written as a rule already: a dictionary that was printed has braces too."""
    return re.search(r"\{(?:\*|[A-Za-z_][\w ./@%-]*)\}", line) is not None


def _renamed(rule: str, names: tuple[str, ...]) -> str:
    for pair in names:
        old, equals, new = pair.partition("=")
        if not equals or not old.strip() or not new.strip():
            raise RequestError(
                f"“{pair}” is no new name.", field="name", try_this="Write OLD=NEW, such as L=loss."
            )
        braced = f"{{{old.strip()}}}"
        if braced not in rule:
            raise RequestError(
                f"The rule has no {braced}.",
                field="name",
                why=f"It is: {rule}",
                try_this="Choose one of its names.",
            )
        rule = rule.replace(braced, f"{{{new.strip()}}}")
    return rule


def _say_preview(session: Session, preview: RulePreview) -> None:
    session.say(f"It catches {preview.caught:,} of {count_text(preview.lines, 'line')}.")
    for caught in preview.examples:
        session.say(f"  {cut(safe_line(caught.line), max(20, session.width - 4))}")
        session.say(f"    {_words(caught.found)}")


def _words(found: Printed) -> str:
    parts = [f"{safe_line(name)} {number_text(value)}" for name, value in found.values.items()]
    if found.step is not None:
        parts.append(f"at step {found.step}")
    if found.epoch is not None:
        parts.append(f"in epoch {found.epoch:g}")
    return ", ".join(parts)

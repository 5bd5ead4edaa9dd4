"""The command line: parse, run, and turn a user's mistake into a message and exit code 2."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from .documentscommand import add_documents
from .errors import StoppedError, UserError
from .exportcommand import add_export
from .feedbackcommand import add_feedback
from .listscommand import add_lists
from .parallel import ends
from .plan import describe_os_error
from .searchcommand import add_search
from .servecommand import add_serve
from .version import __version__

USER_ERROR = 2
REFUSED = 3
STOPPED = 4
EXIT_CODES = (
    "exit codes: 0, 2 for a mistake that can be mended, 3 if the gate refused the pipeline (--gate), 4 if SIGTERM or "
    "Ctrl-C stopped a training, which the same command goes on with"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code, see `EXIT_CODES`."""
    parsed = _parse(arguments)
    _quiet_libraries()
    code = 1
    try:
        code = _carried_out(parsed)
    finally:
        ends(0 if code in (REFUSED, STOPPED) else code)  # in these nothing failed
    return code


def _carried_out(parsed: argparse.Namespace) -> int:
    try:
        return int(parsed.function(parsed) or 0)
    except UserError as error:
        print(f"secondstage: {error}", file=sys.stderr)
        return USER_ERROR
    except StoppedError as error:
        print(f"secondstage: {error}", file=sys.stderr)
        return STOPPED
    except BrokenPipeError:
        # The reader of our output, e.g. `head`, has gone: not our error, and nothing more to say to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        print(f"secondstage: {describe_os_error(error)}", file=sys.stderr)
        return USER_ERROR
    except RuntimeError as error:
        # What `Path.expanduser` raises.
        if "home directory" not in str(error):
            raise
        print("secondstage: a path begins with ~, and there is no such home directory: write it out", file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt:
        print("secondstage: interrupted; run the same command again to go on", file=sys.stderr)
        return 130


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """argparse gives a list of arguments what stands before an option: of `evaluate` the rest is added to it."""
    parser = _parser()
    parsed, rest = parser.parse_known_args(arguments)
    if rest and (not hasattr(parsed, "what") or any(argument.startswith("-") for argument in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        parsed.what += rest
    return parsed


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="secondstage",
        description="From a corpus and some queries to a two-stage search pipeline, with proof.",
        epilog=EXIT_CODES,
    )
    parser.add_argument("--version", action="version", version=f"secondstage {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    demo = commands.add_parser("demo", help="the whole path on the documentation of the installed Python libraries")
    demo.add_argument("--output", default="runs/demo", metavar="DIR", help="default: %(default)s")
    demo.set_defaults(function=_demo)

    for name, description in (
        ("run", "every stage in order; what is done and unchanged is skipped"),
        (
            "warmup",
            "the stages up to the warmed-up model, which needs no query: a base for several tasks",
        ),
        ("mine", "the stages up to the training lists"),
        ("train", "the stages up to the tuned reranker"),
        ("bundle", "the stages up to the pipeline, without a proof"),
    ):
        command = commands.add_parser(name, help=description)
        command.add_argument("config", metavar="CONFIG", help="a YAML file, see configs/domain.yaml")
        command.add_argument("overrides", nargs="*", metavar="key=value", help="e.g. train.minutes=4")
        command.set_defaults(function=_run, command=name, gate=False)

    evaluate = commands.add_parser(
        "evaluate",
        help="the stages up to the proof; or several bundles and TREC runs side by side",
        description="With a CONFIG: the stages up to the proof. With bundles (folders) and TREC runs (files): lay them "
        "side by side on one collection, and say which differences are real; one bundle beside its own first stage.",
    )
    evaluate.add_argument("what", nargs="+", metavar="CONFIG [key=value …] | BUNDLE | RUN", help="see above")
    evaluate.add_argument("--gate", action="store_true", help="exit with 3 if the pipeline may not be shipped")
    evaluate.add_argument(
        "--collection",
        metavar="DIR",
        help="of a comparison: a run's, or in BEIR layout; default: beside the first bundle",
    )
    evaluate.add_argument("--split", help="of a comparison; default: test")
    evaluate.add_argument("--json", action="store_true", help="print a comparison as JSON")
    evaluate.set_defaults(function=_evaluate, command="evaluate")

    bakeoff = commands.add_parser(
        "bakeoff",
        help="several recipes of training under one budget, and which is the better one",
        description="Train every recipe of the section bakeoff with every seed, and compare them on dev.",
    )
    bakeoff.add_argument("config", metavar="CONFIG", help="a YAML file, see configs/bakeoff.yaml")
    bakeoff.add_argument("overrides", nargs="*", metavar="key=value", help="e.g. bakeoff.seeds=[13]")
    bakeoff.set_defaults(function=_bakeoff)

    diagnose = commands.add_parser("diagnose", help="why queries fail: causes, texts, ranks and scores")
    diagnose.add_argument("bundle", metavar="BUNDLE", help="the folder that a run made, e.g. runs/demo/bundle")
    diagnose.add_argument("--collection", metavar="DIR", help="a run's, or in BEIR layout; default: beside the bundle")
    diagnose.add_argument("--split", default="test", help="default: %(default)s")
    diagnose.add_argument(
        "--cutoff",
        type=int,
        default=10,
        metavar="K",
        help="fails: no relevant document in the top K; default: %(default)s",
    )
    diagnose.add_argument("--limit", type=int, default=5, metavar="N", help="shown per cause; default: %(default)s")
    diagnose.add_argument("--json", action="store_true", help="print all of them as JSON lines")
    diagnose.set_defaults(function=_diagnose)

    add_search(commands)
    add_documents(commands)
    add_serve(commands)
    add_export(commands)
    add_feedback(commands)
    add_lists(commands)
    return parser


def _run(parsed: argparse.Namespace) -> int:
    from .commands import carry_out_up_to
    from .configfile import load_config
    from .parallel import workers

    config = load_config(parsed.config, parsed.overrides)
    command = "evaluate" if parsed.command == "run" else parsed.command
    made = carry_out_up_to(command, config)
    output = Path(config.output).expanduser()
    if not workers().lead:
        return 0
    if command != "evaluate":
        print(output / made[-1]["kind"])
        return 0
    passed = _print_proof(output)
    return REFUSED if parsed.gate and not passed else 0


def _evaluate(parsed: argparse.Namespace) -> int:
    first = Path(parsed.what[0]).expanduser()
    if first.suffix in (".yaml", ".yml"):
        if parsed.split or parsed.collection or parsed.json:
            raise UserError("--split, --collection and --json belong to a comparison: a CONFIG says evaluate.split=…")
        parsed.config, parsed.overrides = parsed.what[0], parsed.what[1:]
        return _run(parsed)
    if parsed.gate:
        raise UserError("--gate judges the run of a CONFIG: give a YAML file")
    from secondstage.serve import compare_paths, render_comparison

    paths = [Path(what).expanduser() for what in parsed.what]
    found = compare_paths(paths, parsed.collection, parsed.split or "test")
    print(json.dumps(found, ensure_ascii=False, indent=2) if parsed.json else render_comparison(found))
    return 0


def _bakeoff(parsed: argparse.Namespace) -> None:
    from .bakeoff import bake_off, render
    from .configfile import load_config

    config = load_config(parsed.config, parsed.overrides)
    found = bake_off(config)
    folder = Path(config.output).expanduser() / "bakeoff"
    print(render(found))
    print(f"\nWinner: {folder / 'winner.yaml'}   report: {folder / 'report.html'}")


def _diagnose(parsed: argparse.Namespace) -> None:
    from secondstage.serve import diagnose_bundle

    found = diagnose_bundle(
        Path(parsed.bundle).expanduser(),
        parsed.collection,
        parsed.split,
        cutoff=parsed.cutoff,
        limit=parsed.limit,
        as_json=parsed.json,
    )
    # No failure is no line: an empty one would be no JSON.
    if found:
        print(found)


def _demo(parsed: argparse.Namespace) -> None:
    from .commands import carry_out_up_to
    from .configfile import load_config

    with resources.as_file(resources.files("secondstage.configs") / "demo.yaml") as path:
        config = load_config(path, [f"output={json.dumps(parsed.output, ensure_ascii=False)}"])
    carry_out_up_to("evaluate", config)
    output = Path(config.output).expanduser()
    _print_proof(output)
    print(f'\nAsk it: secondstage search {output / "bundle"} "run a coroutine with a timeout"')


def _print_proof(output: Path) -> bool:
    """Print what was found; return whether the gate lets the pipeline through."""
    from .files import read_json
    from .table import render

    metrics = read_json(output / "evaluation" / "metrics.json")
    print(render(metrics))
    print(f"\nPipeline: {output / 'bundle'}   report: {output / 'evaluation' / 'report.html'}")
    return bool(metrics["verdict"]["passed"])


def _quiet_libraries() -> None:
    """Warnings of libraries are for their developers; with PYTHONWARNINGS or -W they are shown."""
    import warnings

    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    # Set before the libraries are imported, where they read it; a user's own setting stands.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

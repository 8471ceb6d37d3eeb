"""Composition root of the learner: `python -m learner --once [--json] | --watch | --fresh | --import FILE | --why [REPLY]`.

`accelerate launch -m learner --once` starts several of it, which share the one run (learner/model/team.py).
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from data.adapters import AdapterRegistry
from data.base_models import import_base_model
from data.base_models.tokenizer import ChatTokenizer
from data.errors import BadSetting, ChatError
from data.importing import import_conversations
from data.progress import terminal_progress
from data.records import BASE_VERSION, BaseModel, Run
from data.settings import Settings, load_settings
from data.store import Store
from data.sync.sync import LEASE_SECONDS, sync_thread
from learner.config import LearnerConfig, RefineConfig
from learner.model.priority import give_way
from learner.runs.schedule import PATIENCE, next_due
from learner.runs.session import open_run
from learner.runs.telling import TrainingBar, in_words, json_line, print_last, summary, summary_of_error

if TYPE_CHECKING:                                            # it imports torch
    from learner.model.team import Team


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit code: 0 also for a refused candidate and for nothing to do, 1 for an error, told in one sentence."""
    options = _parser().parse_args(arguments)
    if not (options.once or options.watch or options.fresh or options.file or options.why is not None):
        _parser().error("say what to do: --once, --watch, --fresh, --import FILE or --why")
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s learner: %(message)s", datefmt="%H:%M:%S")
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    if options.until_stdin_closes:
        threading.Thread(target=_stop_at_end_of_input, args=(stopping,), daemon=True).start()
    settings = None
    try:
        settings = load_settings()
        return _do(options, settings, stopping)
    except ChatError as error:
        print(error, file=sys.stderr)
    except Exception as error:                               # the edge: one sentence here, the rest in the log
        where = _write_traceback(settings)
        print(f"The learner stopped because of an unexpected {type(error).__name__} ({error}); {where}", file=sys.stderr)
    return 1


def _do(options: argparse.Namespace, settings: Settings, stopping: threading.Event) -> int:
    if _launched()[1] > 1 and not options.once:
        raise BadSetting("Several processes can share one run and nothing else; launch them with --once, or start the learner alone.")
    if _launched()[0] > 0:
        return _help(settings)
    store = Store(settings.database)
    registry = AdapterRegistry(store, settings.adapters_dir)
    syncing = sync_thread(settings, store, registry, learner=True)
    with terminal_progress() as progress:
        base = import_base_model(settings.base_model, settings.models_dir, progress)
    if options.file:
        done = import_conversations(store, base, ChatTokenizer(base.folder), options.file)
        print(f"Imported {done.conversations} conversation{'' if done.conversations == 1 else 's'} with {done.replies} replies from {options.file}"
              + (f"; {done.already_there} were there already." if done.already_there else "."), file=sys.stderr)
    if options.fresh:
        print(start_lineage(store, base), file=sys.stderr)
    if options.why is not None:
        from learner.feedback.why import why

        print_last(json_line(why(store, base, settings.max_new_tokens, options.why or None)))
    if options.once and options.trigger == "maintainer" and store.waiting_request() is None:
        print("The request was withdrawn before its run started.", file=sys.stderr)
    elif options.once:
        by_hand = syncing if options.trigger == "shell" else None           # else the watcher does it
        if by_hand:
            by_hand.once(LEASE_SECONDS)                                     # a chat server may be sending just now
        try:
            run = train_once(store, settings, base, options.trigger, stopping)
        except Exception as error:
            if options.json:
                print_last(json_line(summary_of_error(error, base, store)))
            raise
        if by_hand:
            by_hand.once(LEASE_SECONDS)
        print_last(json_line(summary(run, store)) if options.json else in_words(run))
    if options.watch:
        give_way(idle=False)
        from learner.runs.watch import watch

        if syncing:
            syncing.start()
        watch(store, registry, settings, base.id, stopping)
        if syncing:
            syncing.close()
    return 0


def _launched() -> tuple[int, int]:
    """(which process of a launcher's this is, of how many); (0, 1) without one."""
    return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))


def _help(settings: Settings) -> int:
    """Another process than the first of `accelerate launch`: it touches no store, and does the work that it is sent."""
    give_way(idle=settings.train_when_idle)
    with terminal_progress() as progress:
        base = import_base_model(settings.base_model, settings.models_dir, progress)
    from learner.model.team import ManyProcesses
    from learner.training.helping import help_along

    help_along(ManyProcesses(), base, learner_config(settings))
    return 0


def _stop_at_end_of_input(stopping: threading.Event) -> None:
    while os.read(0, 65_536):          # unbuffered: a thread that holds sys.stdin's lock at exit makes Python abort
        pass
    stopping.set()


def start_lineage(store: Store, base: BaseModel) -> str:
    """`--fresh`: the base model alone goes live, so that nothing an earlier adapter was trained on acts any more.

    Versions, conversations and ratings stay; a maintainer can make an old version live again. Ratings that were given
    to this base model's own versions train the next one, as always.
    """
    live = store.live_version(base.id)
    if live == BASE_VERSION:
        return f"{base.name} already answers without an adapter; the next run starts from it."
    store.promote(BASE_VERSION, base.id, "a new lineage was started from the shell")
    return f"{base.name} answers without an adapter now (version {live} did before); the next run starts from it."


def train_once(store: Store, settings: Settings, base: BaseModel, trigger: str, stopping: threading.Event) -> Run:
    """One run in this process, at low priority; the next due time counts from its end, unless it trained nothing."""
    give_way(idle=settings.train_when_idle)
    registry = AdapterRegistry(store, settings.adapters_dir)
    with _team() as team, TrainingBar() as bar, open_run(store, registry, base.id, trigger, bar.show, stopping.is_set) as (run, pace):
        from learner.runs.run import learn  # torch is imported here and nowhere before
        from serving_sampler import sampler_maker

        learn(store, registry, base, learner_config(settings), run, pace, sampler_maker(settings.engine, base, settings.merged_dir), team)
        registry.remove_old(base.id, settings.keep_versions)
    if settings.train_every_hours > 0 and store.run(run.id).state not in PATIENCE:
        store.set_due_at(next_due(datetime.now(UTC), settings.train_every_hours).isoformat())
    return store.run(run.id)


@contextmanager
def _team() -> Iterator[Team | None]:
    """The processes that share the run, whose others are told when it is over; None when there is no other."""
    if _launched()[1] == 1:
        yield None
        return
    from learner.model.team import ManyProcesses

    team = ManyProcesses()
    try:
        yield team
    finally:
        team.dismiss()


def learner_config(settings: Settings) -> LearnerConfig:
    """The constants of a run. Judging by held-out ratings comes with REFINE: where the rated replies themselves train, none is to spare."""
    return LearnerConfig(
        learning_rate=settings.learning_rate, epochs=settings.epochs, batch_size=settings.batch_size, lora_rank=settings.lora_rank,
        kl_coefficient=settings.kl_coefficient, baseline_margin=settings.baseline_margin, seed=settings.seed,
        sampling=settings.sampling,
        held_out_minimum=LearnerConfig.held_out_minimum if settings.refine else sys.maxsize,
        refine=RefineConfig(enabled=settings.refine, max_new_tokens=settings.max_new_tokens))


def _write_traceback(settings: Settings | None) -> str:
    try:
        settings.logs_dir.mkdir(parents=True, exist_ok=True)
        with open(settings.logs_dir / "learner.log", "a", encoding="utf-8") as file:
            file.write(f"{datetime.now(UTC).isoformat()}\n{traceback.format_exc()}\n")
    except (OSError, AttributeError):                        # no settings yet, or no room: the terminal is what is left
        traceback.print_exc()
        return "see above and try again."
    return f"see {settings.logs_dir / 'learner.log'} and try again."


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m learner", description="Train a new adapter version from the ratings.")
    parser.add_argument("--once", action="store_true", help="one run now")
    parser.add_argument("--watch", action="store_true", help="wait for requests and due times, and run")
    parser.add_argument("--fresh", action="store_true", help="let the base model answer without an adapter (nothing is deleted)")
    parser.add_argument("--import", dest="file", type=Path, metavar="FILE", help="add rated conversations from a JSON file")
    parser.add_argument("--why", nargs="?", const="", metavar="REPLY", help="tell as JSON what the ratings of a reply are worth and how that comes about; without an id, of the one rated last")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON: version, published, ratings_used, gate, ...")
    parser.add_argument("--until-stdin-closes", action="store_true",
                        help="stop as on SIGTERM when standard input ends, so that no learner outlives the process that started it")
    parser.add_argument("--trigger", default="shell", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())

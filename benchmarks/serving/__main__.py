"""`python -m benchmarks.serving [--quick]`: measure what has no result yet, write results.json and report.html."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from tqdm import tqdm

from benchmarks import machine
from benchmarks.lines import add_line, read_lines
from benchmarks.serving import app, report
from benchmarks.serving.digests import digest
from benchmarks.serving.jobs import ALL_STREAMS, OURS, Job, plan
from benchmarks.serving.material import Material, write_adapters
from benchmarks.serving.processes import EngineProcess, Learner
from benchmarks.serving.speakers import available, lacking
from benchmarks.serving.summary import summarise
from chat_app.engines.gguf import servable_gguf
from data.base_models import import_base_model
from data.progress import terminal_progress
from data.records import BaseModel

WORKS = ("streams", "conversation", "reading", "swap", "learner", "app", "crowd")


class Bench:
    """Processes are started when the first job needs them, and live until the end."""

    def __init__(self, base: BaseModel, folder: Path, vllm_python: str | None) -> None:
        self.base, self.folder, self.material = base, folder, Material(base)
        adapter, self.second = write_adapters(base, folder)
        cache = folder / "serving"
        servable_gguf(base, adapter, cache)                    # merged before anybody's clock starts
        self._given = {"base": str(base.folder.resolve()), "adapter": str(adapter.resolve()), "cache": str(cache.resolve()), "vllm_python": vllm_python,
                       "hello": self.material.prompt("Hello"), "warming": self.material.warming()}
        self._engines: dict[str, EngineProcess] = {}
        self._broken: dict[str, str] = {}
        self._learner: Learner | None = None

    @property
    def cold_start(self) -> dict[str, float]:
        return {name: engine.cold_start for name, engine in self._engines.items()}

    def measure(self, job: Job) -> dict:
        """Raises: RuntimeError, OSError: it could not be measured; the sentence says why."""
        if job.work == "app":
            return app.cold_start(self.base, self.folder)
        if job.work == "crowd":
            return app.crowd(self.base, self.folder, self.material.messages(job, app.ROUNDS * (app.PEOPLE + app.LATER)))
        engine, material = self._engine(job.engine), {**self.material.of(job), "second": str(self.second.resolve())}
        if job.work != "learner":
            return engine.measure(job, material)
        if self._learner is None:
            self._learner = Learner({"base": self._given["base"], "prompts": self.material.of(Job(OURS, "streams", 32))["prompts"]}, self.folder)
        idle = engine.measure(job, {**material, "seed": material["seed"] + 100})
        self._learner.go_on()
        try:
            time.sleep(0.5)
            found = engine.measure(job, material)
        finally:
            self._learner.pause()
        return {**found, **{f"idle_{name}": idle[name] for name in ("tokens_per_second", "gap_p50", "gap_p95", "gap_max")}}

    def close(self) -> None:
        for process in [*self._engines.values(), *([self._learner] if self._learner else [])]:
            process.close()

    def _engine(self, name: str) -> EngineProcess:
        if name in self._broken:
            raise RuntimeError(self._broken[name])
        if name not in self._engines:
            try:
                self._engines[name] = EngineProcess(name, self._given, self.folder)
            except RuntimeError as error:
                self._broken[name] = str(error)
                raise
        return self._engines[name]


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit code: 1 when something could not be measured."""
    options = parser().parse_args(arguments)
    if why := lacking(options.engines or (), options.vllm_python):
        parser().error(why)
    folder = options.out
    folder.mkdir(parents=True, exist_ok=True)
    with terminal_progress() as progress:
        base = import_base_model(options.base_model, options.models or folder / "models", progress)
    about = {"command": shlex.join(["python", "-m", "benchmarks.serving", *(arguments if arguments is not None else sys.argv[1:])]),
             "date": datetime.now(UTC).isoformat(timespec="seconds"), "machine": machine.describe(), "base_model": base.id}
    engines = [name for name in available(options.vllm_python) if not options.engines or name in options.engines]
    root = Path(__file__).parents[2]
    jobs = [job for job in plan(engines, streams=options.streams or ((1, 8) if options.quick else ALL_STREAMS), tokens=options.tokens,
                                repeats=options.repeats or (1 if options.quick else 3), model=base.id, code=lambda engine, work: digest(engine, work, root))
            if job.engine in engines and job.work in (options.works or WORKS)]
    file = folder / "results.jsonl"
    done = {row["key"]: row for row in read_lines(file)}
    failed, cold = [], {row["job"]["engine"]: row["cold_start"] for row in done.values()}
    bench = Bench(base, folder, options.vllm_python)
    try:
        bar = tqdm(jobs, unit="measurement", dynamic_ncols=True, disable=None)
        for job in bar:
            bar.set_description(job.title)
            if job.key in done:
                continue
            try:
                figures = bench.measure(job)
            except (RuntimeError, OSError) as error:
                failed.append(f"{job.title}: {error}")
                tqdm.write(failed[-1], file=sys.stderr)
                continue
            cold |= bench.cold_start
            done[job.key] = {"key": job.key, "job": asdict(job), "figures": figures, "cold_start": cold.get(job.engine), "load": round(os.getloadavg()[0], 2)}
            add_line(file, done[job.key])
            tqdm.write(f"{job.title}: " + ", ".join(f"{name} {value:.3g}" for name, value in figures.items() if isinstance(value, (int, float))), file=sys.stderr)
    finally:
        bench.close()
    rows = [done[job.key] for job in jobs if job.key in done]
    summary = summarise([(Job.from_dict(row["job"]), row["figures"]) for row in rows])
    about |= {"cold_start": {engine: seconds for engine, seconds in cold.items() if engine in engines and seconds}, "failed": failed}
    data, page = report.write(folder, about, summary, rows)
    for row in summary["claims"]:
        print(f"{row['claim']}: {row['measured']:.3g} ({row['wanted']}) {'' if row['met'] == 'yes' else 'NOT MET'}")
    print(f"{page}\n{data}")
    return 1 if failed else 0


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(prog="python -m benchmarks.serving", description="Serving engines side by side on the same weights with the same adapter.")
    found.add_argument("--quick", action="store_true", help="1 and 8 replies at once, one repeat: a few minutes")
    found.add_argument("--engines", nargs="+", choices=("ours", "transformers", "llama.cpp", "vllm"), help="default: all that are installed")
    found.add_argument("--works", nargs="+", choices=WORKS)
    found.add_argument("--streams", nargs="+", type=int, help="replies at once (1 2 4 8 16 32)")
    found.add_argument("--tokens", type=int, default=64, help="in each reply (64)")
    found.add_argument("--repeats", type=int, help="of everything; medians are reported (3)")
    found.add_argument("--vllm-python", default=os.environ.get("VLLM_PYTHON"), help="interpreter of an environment with vLLM for CPUs; without it vLLM is left out")
    found.add_argument("--base-model", default="smollm2-135m-instruct", help="as BASE_MODEL")
    found.add_argument("--models", type=Path, help="where imported base models lie (OUT/models)")
    found.add_argument("--out", type=Path, default=Path(".state/benchmarks/serving"), help="results and the report; a second call goes on there")
    return found


if __name__ == "__main__":
    sys.exit(main())

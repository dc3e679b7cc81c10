"""The commands that run stages, fetch what others ran, and keep kernels warm."""

import os
import sys
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from labkit import paths
from labkit.cli.options import complete_experiment, complete_stage, json_option, make_setting_option
from labkit.cli.show import try_to_close_gone
from labkit.console import divert_output, echo, make_column, print_json, print_table, wrap_words
from labkit.stages import builtin
from labkit.units import format_count, format_duration

if TYPE_CHECKING:
    from labkit.run.pipeline.parallel_runs import RunEnd
    from labkit.run.pipeline.progress import Line


@click.command(short_help="Run what has changed, up to the published model.")
@click.argument("experiments", nargs=-1, required=True, metavar="EXPERIMENT...", shell_complete=complete_experiment)
@make_setting_option("SECTION.FIELD=VALUE", "Change the params file; with --sample, for that run only.")
@click.option("--until", metavar="STAGE", help="Stop after this stage.", shell_complete=complete_stage)
@click.option(
    "--force", metavar="STAGE", help="Run this stage even if nothing has changed.", shell_complete=complete_stage
)
@click.option(
    "--sample",
    type=click.IntRange(20),
    metavar="N",
    help="Try N rows with less effort, in scratch only.",
)
@click.option(
    "--jobs", "n_jobs", type=click.IntRange(1), metavar="N", help="Experiments at a time; by default, as many as cores."
)
@click.option("--resume", is_flag=True, help="Continue a failed stage at the cell that failed.")
@click.option("--cold", is_flag=True, help="Start ordinary kernels, without preloaded imports.")
@click.option("--no-wait", is_flag=True, help="Fail if another run of the experiment is under way.")
@click.option("--locked", is_flag=True, help="Fail if the packages differ from requirements.lock.")
@click.option("--json", "is_json", is_flag=True, help="Print result and checks as one JSON document.")
def run(experiments: tuple[str, ...], *, n_jobs: int | None, is_json: bool, **options: Any) -> None:
    """Run the stages of EXPERIMENT that have changed, from raw tables to the published model.

    Several experiments run at a time, each as by a command of its own, as long as the memory that they are expected to
    need fits. If one fails, the others go on; the highest exit code counts.

    \b
    labkit run diabetes
    labkit run diabetes -S training.folds=10       change a parameter in the file
    labkit run diabetes --until training --force eda
    labkit run diabetes --resume                   go on at the failed cell
    labkit run breast_cancer --sample 200          a quick trial, in scratch
    labkit run diabetes --json > run.json          progress goes to stderr
    labkit run diabetes breast_cancer --jobs 2     two experiments at a time
    """
    if options["sample"] and options["force"]:
        raise click.UsageError("--sample runs every stage: leave out --force")
    for name in ("sample", "force", "cold"):
        if options["resume"] and options[name]:
            raise click.UsageError(f"--{name} starts at the first cell: leave out --{name} or --resume")
    if len(experiments) > 1:
        run_several(experiments, n_jobs=n_jobs, is_json=is_json, **options)
        return
    [experiment] = experiments
    # All that runs print for people, libraries included, leaves standard output to the document.
    with divert_output(is_json):
        lines = run_stages(experiment, **options)
    show_run(experiment, lines, options["sample"], is_json=is_json)


def run_several(
    experiments: tuple[str, ...], *, n_jobs: int | None, is_json: bool, settings: tuple[str, ...], **options: Any
) -> None:
    """Run several experiments at a time, print one line about each, and exit with the highest exit code."""
    from labkit.params.load import load_file
    from labkit.params.override import override_file
    from labkit.run.pipeline import dvc_repo
    from labkit.run.pipeline.parallel_runs import run_in_parallel
    from labkit.stages import own_stages

    if repeated := [name for name, n in Counter(experiments).items() if n > 1]:
        raise click.UsageError(f"{repeated[0]} is named twice")
    # Before the first of them starts.
    for experiment in experiments:
        own_stages.check_own_stages(override_file(load_file(experiment), settings).params)
        for word in filter(None, (options["until"], options["force"])):
            dvc_repo.check_stage(word, dvc_repo.list_stages(experiment))
    words = [word for setting in settings for word in ("-S", setting)]
    for name, value in options.items():
        given = [] if value is True else [str(value)]
        words += [f"--{name.replace('_', '-')}", *given] if value else []
    with divert_output(is_json):
        ended = run_in_parallel(experiments, words, n_jobs=n_jobs)
    if is_json:
        print_json({"runs": [one.to_dict() for one in ended]})
    else:
        show_runs(ended, sample=options["sample"])
    sys.exit(max(one.exit_code for one in ended))


def show_runs(ended: "list[RunEnd]", *, sample: int | None) -> None:
    """Print how each of several runs ended and what it led to, and where to look."""
    from labkit.run.records import mlflow_store
    from labkit.stages.result import Result

    rows = []
    for one in ended:
        result = Result(**one.document["result"]) if one.document.get("result") else None
        headlines = [line["headline"] for line in one.document.get("stages", []) if line["headline"]]
        about = f"{result.verdict}: {result.quality}" if result else one.message or (headlines or [""])[-1]
        rows.append((one.experiment, one.outcome, format_duration(one.seconds), about))
    columns = (make_column("experiment", is_whole=True), make_column("ended", is_whole=True))
    print_table((*columns, make_column("time", is_number=True, is_whole=True), "result"), rows)
    if sample:
        pages = [one.document["report"] for one in ended if "report" in one.document]
        for page in pages:
            echo(f"Report:    {page}   (sample of {format_count(sample, 'row')}, never published)")
    else:
        echo(f"Reports:   {os.path.relpath(paths.find_reports_dir() / 'index.html')}")
    echo(f"Tracking:  {mlflow_store.describe_viewing()}")


def run_stages(
    experiment: str,
    *,
    settings: tuple[str, ...],
    until: str | None,
    force: str | None,
    sample: int | None,
    cold: bool,
    **flags: bool,
) -> "list[Line]":
    """Run what `labkit run` was asked for; parameters and flags as its options."""
    from labkit.params.load import load_file
    from labkit.params.override import override_file

    # Before heavy imports, so that an invalid file or setting is reported at once.
    params = override_file(load_file(experiment), settings).params
    from labkit.stages import own_stages

    own_stages.check_own_stages(params)
    from labkit.run.kernels.session import Kernels
    from labkit.run.pipeline.progress import Progress

    with Kernels(is_cold=cold, is_kept_used=not cold, later=builtin.LATER_MODULES) as kernels:
        from labkit.run.pipeline.experiment_run import RunRequest, run_experiment
        from labkit.run.pipeline.sample_run import run_sample

        request = RunRequest(
            until,
            force,
            is_waiting=not flags["no_wait"],
            is_locked=flags["locked"],
            settings=settings,
            is_resumed=flags["resume"],
        )
        how: dict[str, Any] = {"plain": builtin.PLAIN_STAGES, "progress": Progress(), "kernels": kernels}
        if sample:
            return list(run_sample(experiment, rows=sample, request=request, **how))
        return list(run_experiment(experiment, request=request, **how))


def show_run(experiment: str, lines: "list[Line]", sample: int | None, *, is_json: bool) -> None:
    """Print what a run led to: where to look and the result, or all of it with the checks as a JSON document."""
    from labkit.run.pipeline.dvc_repo import PUBLISH
    from labkit.run.records import mlflow_store
    from labkit.stages.result import find_result, list_checks_of_pages

    folder = paths.find_reports_dir()
    page = paths.find_reports_dir(experiment) / "sample" / "index.html" if sample else folder / "index.html"
    result = find_result(experiment) if any(line.stage == PUBLISH for line in lines) else None
    if is_json:
        document: dict[str, Any] = {"experiment": experiment, "sample_rows": sample, "report": os.path.relpath(page)}
        document |= {"result": result.to_dict() if result else None, "stages": [asdict(line) for line in lines]}
        print_json(document | {"checks": list_checks_of_pages(experiment, is_sample=bool(sample))})
        return
    about = f"   (sample of {format_count(sample, 'row')}, never published)" if sample else ""
    echo(f"Report:    {os.path.relpath(page)}{about}")
    echo(f"Tracking:  {mlflow_store.describe_viewing()}")
    if result:
        echo(f"Result:    {wrap_words(str(result), indent=11)}")


@click.command(short_help="Keep a process that starts kernels in half a second.")
@click.option("--stop", is_flag=True, help="Stop the warm process.")
def warm(stop: bool) -> None:
    """Keep a process with all imports done, from which kernels of `labkit run` and JupyterLab are forked.

    It ends after 30 minutes without a kernel.

    \b
    labkit warm
    labkit warm --stop
    """
    from labkit.run.kernels import servers

    if stop:
        n_stopped = servers.stop_servers()
        echo("stopped" if n_stopped else "no warm process was running")
        return
    state = servers.keep_server()
    modules = format_count(state["modules"], "module")
    minutes = format_count(servers.IDLE_SECONDS // 60, "idle minute")
    echo(f"warm: process {state['pid']}, {modules} imported; ends after {minutes}")


@click.command(short_help="Run one stage; dvc.yaml calls this command.")
@click.argument("name", shell_complete=complete_stage)
@click.argument("experiment", shell_complete=complete_experiment)
def stage(name: str, experiment: str) -> None:
    """Run one stage, whether or not it is stale. dvc.yaml calls this command.

    \b
    labkit stage training diabetes
    """
    from labkit.run.pipeline.stage_client import ask_runner

    reply = ask_runner(name, experiment)
    if reply is not None:
        sys.exit(reply.code)
    if name == "fingerprint":
        # By far the most frequent call, so it imports nothing heavy.
        from labkit.params.load import load_params

        builtin.perform_fingerprint(load_params(experiment), None)
        return
    from labkit.params.load import load_params
    from labkit.run.pipeline.experiment_run import run_single_stage
    from labkit.run.pipeline.progress import Progress
    from labkit.stages import own_stages

    own_stages.check_own_stages(load_params(experiment))
    run_single_stage(name, experiment, plain=builtin.PLAIN_STAGES, progress=Progress())


@click.command(short_help="Show stages of your own; bring dvc.yaml up to date.")
@click.option("--update", is_flag=True, help="Write what their notebooks declare to dvc.yaml.")
@json_option
def stages(update: bool, is_json: bool) -> None:
    """Show the stages of your own: numbered notebooks other than labkit's, and whether dvc.yaml has them.

    Such a notebook declares what it reads and writes in its first table, and its parameters in its `parameters` cell.
    With --update, dvc.yaml is brought up to date. Without it, exit code 1 if it is not.

    \b
    labkit stages
    labkit stages --update
    """
    from labkit.params.load import list_experiments
    from labkit.run.notebook_files import list_misnamed
    from labkit.run.pipeline.run_lock import hold_checkout
    from labkit.stages import own_stages

    if update:
        with hold_checkout("all experiments", report=echo, command="labkit stages --update"):
            plan = own_stages.update_stages()
    else:
        plan = own_stages.plan_stages()
    difference = plan.describe()
    if is_json:
        print_json(plan.to_dict(is_updated=update))
    else:
        for one in plan.stages:
            echo(f"{one.stage.name}: {paths.show_path(one.stage.path)}, of {', '.join(one.experiments)}")
            echo(f"  reads {', '.join(one.stage.reads) or 'nothing'}; writes {', '.join(one.stage.writes.values())}")
        if not plan.stages:
            echo("no stages of your own: docs/own-notebooks.md shows how to add one")
        for path in list_misnamed(list_experiments()):
            echo(f"{paths.show_path(path)}: no stage: if it is one, name it like 08_segments.ipynb, in lowercase")
        echo(f"dvc.yaml: {('updated' if update else difference) if difference else 'up to date'}")
    sys.exit(1 if difference and not update else 0)


@click.command(short_help="Fetch the data of runs that others have pushed.")
@click.argument("experiments", nargs=-1, metavar="[EXPERIMENT]...", shell_complete=complete_experiment)
def pull(experiments: tuple[str, ...]) -> None:
    """Fetch the data of runs that others have pushed, as listed in dvc.lock, and check them out.

    \b
    labkit pull                                after `git pull`
    labkit pull diabetes
    """
    from labkit.params.load import load_params
    from labkit.run.pipeline import dvc_remote, run_lock

    for experiment in experiments:
        load_params(experiment)
    try_to_close_gone()
    with run_lock.hold_checkout(", ".join(experiments) or "all experiments", report=echo):
        echo(dvc_remote.pull(experiments))

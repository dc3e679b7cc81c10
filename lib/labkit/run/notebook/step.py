"""The interface of a stage for its notebook: parameters, artifacts, metrics, dependencies and secrets.

Runs inside the kernel. `labkit.run.pipeline.stage_run` executes and records the notebook; `labkit.start` passes in the
artifacts and how they are checked.
"""

import html
import json
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit import paths
from labkit.checks import CHECKS
from labkit.errors import DataError, MissingDataError, ParamsError, StageError, list_briefly, name_nearest
from labkit.params import describe, load, override
from labkit.params.experiment import SECTIONS, Params
from labkit.params.own_calls import hide_tables
from labkit.params.own_metrics import OWN_METRICS
from labkit.params.section import Section
from labkit.params.stage_section import STAGES, list_overridden, load_section
from labkit.params.subject import Subject
from labkit.run.child_run import ChildRun
from labkit.run.notebook.metrics import check_metric
from labkit.run.records.current_experiment import choose_experiment
from labkit.run.tracing import trace
from labkit.secrets.redaction import Mask
from labkit.secrets.secret import Secret, read_secret
from labkit.storage.append import append_line

if TYPE_CHECKING:
    from labkit.run.notebook.interactive_run import InteractiveRun

LOG_NAME = "log.jsonl"
OUTPUTS_NAME = "outputs"
CHECKS_PLACE, FINDINGS_PLACE, PLOT_PLACE = CHECKS, "labkit-findings", "labkit-plot"
"""Display ids under the set-up cell, which the last cells fill: a reader sees the result first."""
FOLLOW_SECONDS = 0.2
"""How often the output of a run that a notebook started is shown."""
WAITING = "*The findings will be shown here once the notebook has run to its end.*"


@dataclass(frozen=True)
class Catalogue:
    """The artifacts that pass between stages: names, paths relative to the experiment's data folder, reading, writing.

    `load(name, path, params)` returns a checked object; `save(name, path, obj, params)` checks and writes one. A stage
    of the user's own declares its artifacts in a table, which is at `where`.
    """

    places: Mapping[str, str]
    load: Callable[[str, Path, Params], Any]
    save: Callable[[str, Path, Any, Params], None]
    where: str = ""

    def find_place(self, name: str) -> str:
        """Return an artifact's path, relative to the experiment's data folder."""
        if name not in self.places:
            lead = f"{self.where}: declares no artifact" if self.where else "no artifact"
            raise DataError(f"{lead} {name!r}: {name_nearest(name, self.places)}")
        return self.places[name]


@dataclass
class Step:
    """The object that `labkit.start` returns to a notebook.

    Attributes
    ----------
    name
        Name of the stage and of its section of the params file.
    whole
        All params of the experiment; `params` is the section of the stage.
    is_batch
        True under `labkit run`, `labkit stage` or `dvc repro`; False in interactive use, where all goes to scratch.
    """

    name: str
    whole: Params
    catalogue: Catalogue
    overrides: Mapping[str, Any] = field(default_factory=dict)
    own: Section | None = None
    run_dir: Path | None = field(default_factory=paths.get_run_dir)
    tracked: "InteractiveRun | None" = field(default=None, repr=False)

    @property
    def params(self) -> Any:
        """The stage's own section of the params, frozen."""
        return self.own if self.own is not None else getattr(self.whole, self.name)

    @property
    def subject(self) -> Subject:
        """The words of the experiment: its question, and what rows, classes and columns are called."""
        return Subject.from_params(self.whole)

    @property
    def is_batch(self) -> bool:
        """Whether the runner executes this notebook."""
        return self.run_dir is not None

    @property
    def uses_scratch(self) -> bool:
        """Whether artifacts in scratch take precedence over the pipeline's."""
        return not self.is_batch or paths.is_sample_run()

    def load(self, name: str) -> Any:
        """Load an artifact that an earlier stage wrote, checked against its contract.

        In interactive sessions and sample runs, a copy in scratch takes precedence; interactive sessions print a line.

        Raises
        ------
        MissingDataError
            The artifact has not been written yet.
        DataError
            No artifact has that name, or it is damaged or violates its contract.
        """
        place = self.catalogue.find_place(name)
        scratch = paths.find_scratch_dir(self.whole.experiment) / place
        path = paths.find_data_dir(self.whole.experiment) / place
        if self.uses_scratch and scratch.exists():
            path = scratch
            if not self.is_batch:
                print(f"{name} is loaded from {paths.show_path(scratch)}; delete that to load the pipeline's.")
        if not path.exists():
            raise MissingDataError(
                f"{paths.show_path(path)}: not written yet: run `labkit run {self.whole.experiment}` "
                "or the notebook that writes it"
            )
        return self.catalogue.load(name, path, self.whole)

    def save(self, name: str, obj: Any) -> None:
        """Check and write an artifact: for the pipeline in a batch run, to scratch in an interactive session.

        Raises
        ------
        DataError
            No artifact has that name, or the object violates its contract.
        """
        place = self.catalogue.find_place(name)
        folder = self.run_dir / OUTPUTS_NAME if self.run_dir else paths.find_scratch_dir(self.whole.experiment)
        self.catalogue.save(name, folder / place, obj, self.whole)
        if not self.is_batch:
            print(f"{name} written to {paths.show_path(folder / place)}")

    def make_folder(self, name: str) -> Path:
        """Return the folder to write the artifact `name` into, file by file."""
        place = self.catalogue.find_place(name)
        folder = self.run_dir / OUTPUTS_NAME if self.run_dir else paths.find_scratch_dir(self.whole.experiment)
        (folder / place).mkdir(parents=True, exist_ok=True)
        return folder / place

    def log(self, **metrics: float) -> None:
        """Record metrics of this stage; in a batch run they go to MLflow."""
        self.record("metrics", metrics={name: check_metric(name, value) for name, value in metrics.items()})

    def log_child(
        self, name: str, *, params: Mapping[str, Any] | None = None, metrics: Mapping[str, float] | None = None
    ) -> None:
        """Record a child run of this stage's run, such as a candidate of training."""
        numbers = {key: float(value) for key, value in (metrics or {}).items()}
        strings = {key: str(value) for key, value in (params or {}).items()}
        self.record("child", name=name, params=strings, metrics=numbers)

    def conclude(self, findings: Sequence[str], checks: Sequence[Mapping[str, str]] = ()) -> None:
        """Record the findings of this stage, as Markdown sentences, and the results of its checks.

        Notebooks call `labkit.view.summary.show_summary`, which also shows them below the set-up cell.
        """
        self.record("conclusion", findings=list(findings), checks=[dict(check) for check in checks])

    def finish(self, headline: str = "") -> None:
        """Mark the stage as complete; `headline` is the result that tables show for it."""
        self.record("finish", headline=headline)
        if not self.is_batch:
            print(f"{self.name} done{': ' + headline if headline else ''}. Only scratch was written.")
            # Imported here: in a batch run only the runner needs it.
            from labkit.run.fingerprint.footprint import make_footprint

            if untracked := make_footprint(trace.list_notes()).list_untracked():
                print(f"Not tracked: {list_briefly(untracked)}")

    def depends_on(self, *, path: str | Path | None = None, variable: str | None = None) -> None:
        """Declare a dependency that labkit cannot observe: the stage runs again when its content changes.

        Files and variables that the notebook and the modules beside it open, list, import or read need no declaration.

        Parameters
        ----------
        path
            A file, or a folder with its content, that a program reads or that is outside the checkout. Relative to the
            notebook's folder.
        variable
            An environment variable that a program or a library reads; only the SHA-256 of its value is stored.

        Raises
        ------
        ParamsError
            Neither is given, or the variable holds a secret.
        MissingDataError
            The path does not exist.

        Examples
        --------
        In a notebook: ``step.depends_on(path="/data/rates.csv", variable="REGION")``.
        """
        from labkit.run.fingerprint.dependencies import check_variable

        if path is None and variable is None:
            raise ParamsError("step.depends_on: name a path or a variable, e.g. path='/data/rates.csv'")
        if variable is not None:
            trace.declare("variable", check_variable(variable, self.whole.secrets.values()))
        if path is not None:
            place = Path(path).absolute()
            if not (place.is_file() or place.is_dir()):
                raise MissingDataError(f"step.depends_on: {paths.show_path(place)}: no such file or folder")
            trace.declare("path", str(place.resolve() if ".." in place.parts else place))

    def secret(self, name: str) -> Secret:
        """Return a secret that the params name under `secrets`; it shows only its name, `.reveal()` returns the value.

        Raises
        ------
        ParamsError
            No secret has that name, or its environment variable is not set.
        """
        where = paths.show_path(paths.find_params_path(self.whole.experiment))
        return read_secret(name, self.whole.secrets, where=where)

    def run(self, *, until: str | None = None) -> None:
        """Run this stage in the pipeline, and what follows and is stale then, from the notebook as it is saved.

        As `labkit run --force` in a terminal: in a process of its own, so that this kernel keeps its variables. The
        output is shown while it runs; interrupting the kernel interrupts the run.

        Parameters
        ----------
        until
            The stage to stop after, e.g. this one; all that follow if None.

        Raises
        ------
        ParamsError
            The notebook is itself run by the pipeline.
        StageError
            The run failed.
        """
        experiment = self.whole.experiment
        if self.is_batch:
            raise ParamsError(f"step.run(): the pipeline runs this notebook already: remove it from {self.name}")
        arguments = ["run", experiment, "--force", self.name, *(["--until", until] if until else [])]
        if self.overrides:
            path = paths.show_path(paths.find_params_path(experiment))
            print(f"Not used by the pipeline, which reads {path}: {', '.join(self.overrides)} of this notebook.")
        with trace.paused():
            child = ChildRun(arguments)
            print(f"{child.command}   (process {child.process.pid}; runs the saved notebook)")
            if code := follow(child):
                raise StageError(f"{child.command} ended with exit code {code}: its message is above")

    def track(self, *, notebook: str | Path | None = None) -> "InteractiveRun | None":
        """Record from here on what is executed in this notebook, as an interactive run: no run of the pipeline.

        `.stop()` or the end of the kernel ends it. `notebook` is its file, where JupyterLab does not name it; see
        `labkit.run.notebook.interactive_run`.
        """
        if self.is_batch or (self.tracked and not self.tracked.is_over):
            return self.tracked
        with trace.paused():
            from labkit.run.notebook.interactive_run import start_tracking

            self.tracked = start_tracking(self.whole, self.name, notebook=notebook, mask=self.make_mask())
        print(f"{self.tracked.entry.run} records this notebook from here on; it is not a run of the pipeline.")
        return self.tracked

    def make_mask(self) -> Mask:
        """Return what removes the values of the experiment's secrets from all that is stored."""
        held = {name: paths.get_variable(variable) for name, variable in self.whole.secrets.items()}
        return Mask({name: value for name, value in held.items() if value})

    def record(self, kind: str, **content: Any) -> None:
        """Append an entry to the log that the runner reads; interactively only metrics of a tracked notebook count."""
        if self.run_dir is not None:
            line = {"kind": kind, **self.make_mask().clean(content)}
            append_line(self.run_dir / LOG_NAME, json.dumps(line, ensure_ascii=False))
        elif self.tracked and kind == "metrics":
            self.tracked.log(content["metrics"])

    def describe(self) -> list[tuple[str, Any, str, str]]:
        """Return name, value, origin and meaning of each of the stage's parameters."""
        with trace.paused():
            file = load.load_file(self.whole.experiment)
        keys = [self.name] if self.own is None else [STAGES, self.name]
        section = getattr(file.params, self.name) if self.own is None else self.own
        entries = describe.describe_section(section, keys, file)
        return [
            (
                short,
                describe.make_shown(getattr(self.params, short)) if short in self.overrides else entry.value,
                "this notebook" if short in self.overrides else entry.origin,
                entry.meaning,
            )
            for entry in entries
            for short in [entry.name.removeprefix(f"{'.'.join(keys)}.")]
        ]

    def __repr__(self) -> str:
        lines = [f"{name} = {value!r}  ({origin})" for name, value, origin, _ in self.describe()]
        return "\n".join([self.subject.question, f"Step {self.name} of {self.whole.experiment}", *lines])

    def _ipython_display_(self) -> None:
        """Display the places for checks, findings and plot, and interactively the parameters, which a page has last."""
        from IPython.display import HTML, Markdown, display

        display(Markdown(""), display_id=CHECKS_PLACE)
        display(Markdown("" if self.is_batch else WAITING), display_id=FINDINGS_PLACE)
        display(Markdown(""), display_id=PLOT_PLACE)
        if not self.is_batch:
            display(HTML(self._repr_html_()))

    def _repr_html_(self) -> str:
        head = "<tr><th>parameter</th><th>value</th><th>from</th><th>meaning</th></tr>"
        rows = "".join(
            "<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in line) + "</tr>"
            for line in self.describe()
        )
        place = f"{html.escape(self.name)} of {html.escape(self.whole.experiment)}"
        question = f"<p>{place}: <strong>{html.escape(self.subject.question)}</strong></p>"
        return f"{question}<table><thead>{head}</thead><tbody>{rows}</tbody></table>"


def start_step(name: str, experiment: str, overrides: Mapping[str, Any] | None, catalogue: Catalogue) -> Step:
    """Load and check the params, apply the notebook's overrides, and return the step.

    Values that equal the file's after conversion are not overrides, so injecting a whole section changes nothing.

    Raises
    ------
    ParamsError
        The stage, the experiment, a key or a value is not valid.
    """
    if experiment == "":
        with trace.paused():
            experiment, reason = choose_experiment()
        print(f"Experiment: {experiment} ({reason}). Set it in the parameters cell, or {paths.EXPERIMENT_VARIABLE}.")
    if not isinstance(experiment, str):
        raise ParamsError(f'experiment is {experiment!r:.60}: name a params file, e.g. "diabetes"')
    trace.begin_in_kernel()
    paths.make_library_importable()
    with trace.paused():
        params = load.load_params(experiment)
    OWN_METRICS.use(params.evaluation.metrics)
    hide_tables(experiment, params.data.files)
    if name not in SECTIONS:
        with trace.paused():
            return start_own(name, params, overrides, catalogue)
    if overrides is None or overrides == {}:
        return Step(name, params, catalogue)
    with trace.paused():
        overridden = override.override_section(params, name, overrides)
    OWN_METRICS.use(overridden.evaluation.metrics)
    before: Section = getattr(params, name)
    after: Section = getattr(overridden, name)
    changed = {key: getattr(after, key) for key in overrides if getattr(after, key) != getattr(before, key)}
    return Step(name, overridden, catalogue, changed)


def start_own(name: str, params: Params, overrides: Mapping[str, Any] | None, catalogue: Catalogue) -> Step:
    """Return the step of a stage of the user's own: its notebook declares the artifacts and parameters that it has."""
    from labkit.run.notebook.stage_table import find_declared_places, find_own_stage

    stage = find_own_stage(name, params.experiment)
    section = load_section(params, stage.name, stage.declared, overrides)
    declared = replace(
        catalogue, places=find_declared_places(stage, params.experiment, catalogue.places), where=stage.where
    )
    return Step(stage.name, params, declared, list_overridden(stage.declared, overrides or {}), section)


def follow(child: ChildRun) -> int:
    """Print the output of a child process until it has ended and return its exit code; an interrupt stops it first."""
    try:
        while child.exit_code is None:
            print(child.read_new(), end="", flush=True)
            try:
                child.wait(FOLLOW_SECONDS)
            except subprocess.TimeoutExpired:
                continue
    except KeyboardInterrupt:
        child.stop()
        child.wait()
        raise
    finally:
        print(child.read_new(), end="", flush=True)
    return child.wait()

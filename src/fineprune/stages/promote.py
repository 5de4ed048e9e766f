"""promote: decide, register the model with its evidence, move the alias only on a pass."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from fineprune import lineage
from fineprune.config import Count, Range, to_show
from fineprune.custody import check_custody, check_dataset, check_model
from fineprune.data.format import Dataset
from fineprune.decision import Decision, as_page, as_text, decision_record, write
from fineprune.errors import ConfigError, DataError, TrackingError
from fineprune.evaluation.comparison import check_figures, outcomes_behind, utility_gain
from fineprune.exit_codes import HELD
from fineprune.gate import DEFENDED, Champion, Interval, Thresholds, Verdict, challenge, decide, needs_gain
from fineprune.lineage import StageRecord
from fineprune.models.format import check_fits, load_model
from fineprune.stages.base import Result, Stage, content_digest
from fineprune.tracking.evidence import LostEvidenceError
from fineprune.tracking.lock import LOCK_SUFFIX
from fineprune.tracking.promotion import CANDIDATE, CHAMPION, Promotion, Version
from fineprune.tracking.store import connect
from fineprune.tracking.tracker import Tracker
from fineprune.tracking.verdict import KUBEFLOW_RUN

PROTOCOL = "digest.protocol"
# What each stage's nested run is called, by the flag of its report.
REPORTS = {
    "ingest_report": "ingest",
    "attack_report": "attack",
    "profile_report": "profile",
    "prune_report": "prune",
    "control_profile_report": "profile control",
    "control_prune_report": "prune control",
    "fine_tuned_report": "finetune fine_tuned",
    "fine_pruned_report": "finetune fine_pruned",
    "control_fine_pruned_report": "finetune control_fine_pruned",
    "evaluation": "evaluate",
}
EXAMPLE_ROWS = 2  # the fewest that leave the batch dimension dynamic; they are stored as text


@dataclass(frozen=True)
class PromoteConfig:
    """The ``promote`` section.

    Attributes:
        model: the row of the evaluation that is to be promoted.
        registered_name: of the registered model.
        min_utility: for the lower end of utility, -1…1.
        max_clean_loss: for the upper end of the loss of clean accuracy, -1…1.
        min_samples: test inputs behind each figure.
        replace_champion: whether a passing version's utility must be clearly above the present champion's.
        tracking_uri: of MLflow; the environment's ``MLFLOW_TRACKING_URI`` wins.
        experiment: where the runs are logged.
    """

    model: Literal["fine_pruned", "fine_tuned"]
    registered_name: str
    min_utility: Annotated[float, Range(ge=-1, le=1)]
    max_clean_loss: Annotated[float, Range(ge=-1, le=1)]
    min_samples: Count
    replace_champion: Literal["better", "always"]
    tracking_uri: str
    experiment: str

    def __post_init__(self) -> None:
        name = self.registered_name
        nameless = name.strip() in ("", ".", "..")
        if nameless or set(name) & set("/\\:?@'\"`") or not name.isprintable() or LOCK_SUFFIX in name:
            raise ConfigError(
                "promote.registered_name: expected a name without / \\ : ? @ or quotes and not one of a "
                f"lock, found {name!r}"
            )

    @property
    def thresholds(self) -> Thresholds:
        """What the gate asks for."""
        return Thresholds(self.min_utility, self.max_clean_loss, self.min_samples)


@dataclass(frozen=True)
class Evidence:
    """What the inputs say, and what the gate says of it; all of it is read before MLflow is asked.

    Attributes:
        name: what the pipeline run is called.
        digests: SHA-256 of the card of ``model``, ``evaluation`` and ``dataset``.
        evaluation: the evaluation's report.
        records: the stages' reports.
        numbers: every figure of every model with its interval, by name.
        params: of all stages that the model went through, by name.
        run_tags, version_tags: by name.
        verdict: the gate's, before any champion is looked at.
    """

    name: str
    digests: Mapping[str, str]
    evaluation: Mapping[str, Any]
    records: list[StageRecord]
    numbers: Mapping[str, float]
    params: Mapping[str, str]
    run_tags: Mapping[str, str]
    version_tags: Mapping[str, str]
    verdict: Verdict


def run(
    config: PromoteConfig,
    inputs: Mapping[str, Path],
    outputs: Mapping[str, Path],
    *,
    check: Callable[[], None],
    fail_on_hold: bool = False,
    run_id: str | None = None,
) -> Result:
    """Judge, log the whole pipeline run, register the version, settle the alias, and say what happened."""
    dataset, network = Dataset(inputs["dataset"]), load_model(inputs[config.model])
    check_fits(network, dataset.card, inputs[config.model])
    evidence = read_evidence(config, inputs, dataset, kubeflow_run=run_id)
    example = dataset.inputs(dataset.splits["defender_fit"][:EXAMPLE_ROWS])
    check()  # all that is judged is read
    name, tags = config.registered_name, evidence.version_tags
    key = f"{evidence.digests['evaluation']} {config.model}"
    tracker = connect(os.environ.get("MLFLOW_TRACKING_URI") or config.tracking_uri, config.experiment)
    shown = {"tags": evidence.run_tags, "params": evidence.params}
    with tracker.pipeline_run(name=evidence.name, key=key, **shown) as parent:
        for record in evidence.records:
            tracker.log_stage(parent, record)
        version = tracker.register(name, network, example, run_id=parent, tags=tags)
        comparison = Comparison(evidence, version, config.replace_champion, tracker)
        comparison.verdict(tracker.champion(name))  # whose evaluation is fetched before the lock is taken
        with tracker.promotion(name, version) as promotion:
            verdict = comparison.verdict(promotion.champion)
            decision, page = settle(promotion, verdict, config, evidence, parent, tracker.uri)
        look_at = tracker.look_at(parent)
        text = as_text(decision, report=inputs["evaluation"] / "report.html", look_at=look_at)
        write(outputs["report"], decision, page=page, text=text)
        doubts = [decision.place] if decision.contradicts_alias else []
        try:
            tracker.log_stage(parent, decision_record(decision, to_show(config), outputs["report"]))
            metrics = dict(headline(evidence.numbers, config.model))
            tracker.log(parent, metrics=metrics, tags={"verdict": decision.verdict}, description=page)
        except TrackingError as error:  # the alias has moved: to fail now would tell of no decision
            doubts.append(f"{decision.place}, but its run lacks the decision: {error}: run again")
    return Result(
        numbers={"promoted": float(decision.verdict == "promoted")},
        warnings=doubts,
        extra={"decision": asdict(decision)},
        text=text,
        exit_code=HELD if fail_on_hold and decision.verdict == "held" else 0,
    )


def read_evidence(
    config: PromoteConfig, inputs: Mapping[str, Path], dataset: Dataset, *, kubeflow_run: str | None
) -> Evidence:
    """Read every report and judge.

    Raises:
        DataError: a report is malformed or of another run, or the evaluation was made on another dataset.
    """
    model, limits = config.model, config.thresholds
    reports = {port: lineage.read_report(inputs[port]) for port in REPORTS}
    evaluation = reports["evaluation"]
    check_dataset(evaluation, dataset.digest, dataset.path)
    check_custody(reports, inputs)
    parts = {"model": model, "evaluation": "evaluation", "dataset": "dataset"}
    digests = {name: content_digest(inputs[port]) for name, port in parts.items()}
    check_model(evaluation, model, digests["model"], inputs[model])
    configs = {stage: reports[port].get("config") for stage, port in made_by(model).items()}
    training = reports[made_by(model)["finetune"]]
    origin = lineage.provenance(evaluation, training) | {"model": model}
    origin |= {KUBEFLOW_RUN: kubeflow_run} if kubeflow_run else {}
    shown = lineage.evidence_tags(evaluation, model=model, thresholds=asdict(limits), configs=configs)
    return Evidence(
        name="{} {} seed {}".format(*map(origin.get, ("case", "attack", "seed"))),
        digests=digests,
        evaluation=evaluation,
        records=[lineage.as_record(name, inputs[port], reports[port]) for port, name in REPORTS.items()],
        numbers=dict(lineage.evaluation_metrics(evaluation)),
        params=dict(lineage.flatten({stage: config or {} for stage, config in configs.items()})),
        run_tags=origin,
        version_tags=origin
        | shown
        | {f"digest.{name}": digest for name, digest in digests.items()}
        | {PROTOCOL: lineage.protocol(evaluation, data=dataset.content)},
        verdict=decide(
            evaluation,
            model=model,
            model_digest=digests["model"],
            thresholds=limits,
            doubt=_doubt(evaluation, model),
        ),
    )


def _doubt(evaluation: Mapping[str, Any], model: str) -> str | None:
    """What the outcomes of single inputs say against the figures of a model; None for nothing."""
    try:
        check_figures(evaluation, model)
    except DataError as error:
        return f"{error}; evaluate again"
    return None


def made_by(model: str) -> dict[str, str]:
    """The stages that a model went through, and the flag of each one's report."""
    stages = ("ingest", "attack") + (("profile", "prune") if model == "fine_pruned" else ())
    made = {stage: f"{stage}_report" for stage in stages}
    return made | {"finetune": f"{model}_report", "evaluate": "evaluation"}


def settle(
    promotion: Promotion,
    verdict: Verdict,
    config: PromoteConfig,
    evidence: Evidence,
    run_id: str,
    tracking_uri: str,
) -> tuple[Decision, str]:
    """Describe the version, move the alias; gives the decision and its page."""
    best = promotion.champion
    decision = Decision(
        verdict=verdict.verdict,
        reasons=verdict.reasons,
        model=config.model,
        model_digest=evidence.digests["model"],
        registered_name=promotion.name,
        registered_version=promotion.version,
        alias=CHAMPION if verdict.promoted else CANDIDATE,
        champion_before=best.number if best else None,
        evaluation_digest=evidence.digests["evaluation"],
        run_id=run_id,
        tracking_uri=tracking_uri,
    )
    tags = {"verdict": verdict.verdict, "reasons": "\n".join(verdict.reasons)}
    if run := evidence.run_tags.get(KUBEFLOW_RUN):
        tags |= {f"{KUBEFLOW_RUN}.{run}": verdict.verdict, f"{KUBEFLOW_RUN}.{run}.reasons": tags["reasons"]}
    page = as_page(decision, evidence.numbers)
    # What was written when it became champion says which version it replaced.
    told = (
        decision.stays
        and best is not None
        and best.tags.get("verdict") == verdict.verdict
        and best.tags.get("reasons", "").splitlines()[:-1] == list(verdict.reasons[:-1])  # the last is of it
    )
    if told:
        del tags["reasons"]
    promotion.settle(decision.alias, tags, None if told else page)
    return decision, page


class Comparison:
    """The evidence beside champions, each of which is compared once.

    What it needs of MLflow may take longer than a promotion's lock lasts: whoever is champion before it is
    taken should be asked for first.

    Args:
        evidence: of the challenger.
        version: the challenger's.
        replace: what replaces a champion.
        tracker: where the champions' evaluations are.
    """

    def __init__(
        self, evidence: Evidence, version: str, replace: Literal["better", "always"], tracker: Tracker
    ) -> None:
        self._evidence, self._tracker = evidence, tracker
        self._version, self._replace = version, replace
        self._gains: dict[str, Interval | str] = {}

    def verdict(self, found: Version | None) -> Verdict:
        """The gate's verdict with that champion, or with none."""
        alone, version, how = self._evidence.verdict, self._version, self._replace
        champion = self._champion(found) if found else None
        if found and champion and needs_gain(alone, champion, version=version, replace=how):
            if found.number not in self._gains:
                self._gains[found.number] = self._gain_over(found)
            champion = replace(champion, gain=self._gains[found.number])
        return challenge(alone, champion, version=version, replace=how)

    def _champion(self, found: Version) -> Champion:
        return Champion(
            version=found.number,
            comparable=found.tags.get(PROTOCOL) == self._evidence.version_tags[PROTOCOL],
            same_model=found.tags.get("digest.model") == self._evidence.digests["model"],
        )

    def _gain_over(self, found: Version) -> Interval | str:
        """Utility above the champion's, or what is missing to tell, and what to do about it."""
        ours = outcomes_behind(self._evidence.evaluation, self._evidence.run_tags["model"])
        try:
            theirs = outcomes_behind(self._tracker.evaluation_of(found), found.tags.get("model", ""))
            gain = utility_gain(ours, theirs)
        except (LostEvidenceError, DataError) as error:
            return f"the champion's evaluation cannot be used: {error}; evaluate and promote it again"
        return Interval(**asdict(gain)) if gain else "one of the two is undefined"


def headline(numbers: Mapping[str, float], model: str) -> Iterator[tuple[str, float]]:
    """What is worth comparing between pipeline runs: the model with its intervals, the others without."""
    yield from (
        (name, numbers[name]) for name in numbers if name.startswith(f"{model}.") and name[-2:] != ".n"
    )
    yield from ((name, numbers[name]) for name in numbers if name.rpartition(".")[2] in lineage.FIGURES)


STAGE = Stage(
    name="promote",
    config=PromoteConfig,
    inputs=("dataset", *DEFENDED, *REPORTS),
    outputs=("report",),
    run=run,
    flags={"fail_on_hold": f"leave with exit code {HELD} if the model is held"},
    options={"run_id": "Kubeflow's id of the run, kept as a tag in MLflow"},
    views={"verdict": "verdict.md"},
    final=True,
)

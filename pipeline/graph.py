"""The pipelines: the stages wired as in dvc.yaml, for one delivered model and for a sweep.

The undefended model and the clean control both go through profile and prune; the undefended model, the
pruned model and the pruned control are fine-tuned. The promote section says which one is up for promotion.
Annotations are not postponed here: kfp reads them.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

from kfp import dsl
from kfp.dsl.base_component import BaseComponent

from components import COMPONENTS
from pipeline import parameters, resources
from pipeline.settings import Settings

Section = dict[str, Any]
Tasks = dict[str, dsl.PipelineTask]


def fine_pruning(settings: Settings, case: str) -> BaseComponent:
    """The pipeline of one delivered model, from the data to the verdict.

    Args:
        settings: of the cluster.
        case: whose sections are the parameters' defaults.
    """
    default = parameters.defaults(case)

    @dsl.pipeline(name="fine-pruning", display_name="Fine-pruning")
    def pipeline(
        ingest: Section = default["ingest"],
        attack: Section = default["attack"],
        profile: Section = default["profile"],
        prune: Section = default["prune"],
        finetune: Section = default["finetune"],
        evaluate: Section = default["evaluate"],
        promote: Section = default["promote"],
        source: str = default["source"],
        revision: str = default["revision"],
        data_md5: str = default["data_md5"],
        registered_name: str = default["registered_name"],
        min_utility: float = default["min_utility"],
        max_clean_loss: float = default["max_clean_loss"],
    ) -> None:
        """Remove a backdoor by fine-pruning, measure what is left, promote only on good evidence.

        Args:
            ingest: the ingest section of params.yaml.
            attack: the attack section.
            profile: the profile section.
            prune: the prune section.
            finetune: the finetune section.
            evaluate: the evaluate section.
            promote: the promote section.
            source: where the data is: dvc+https://repo@rev:path, s3://bucket/prefix, digits or generated.
            revision: of the repository of a dvc+ source, instead of the one it names; empty for that one.
            data_md5: DVC's md5 of the source. Give it where a source can change behind its name: the cache
                looks at parameters, not at bytes.
            registered_name: of the model in the MLflow registry.
            min_utility: that the lower end of utility must reach.
            max_clean_loss: that the upper end of the loss of clean accuracy may not exceed.
        """
        sections = {
            "ingest": ingest,
            "attack": attack,
            "profile": profile,
            "prune": prune,
            "finetune": finetune,
            "evaluate": evaluate,
        }
        tasks = _measure(settings, sections, source=source, revision=revision, data_md5=data_md5)
        _promote(
            settings,
            tasks,
            params=promote,
            registered_name=registered_name,
            min_utility=min_utility,
            max_clean_loss=max_clean_loss,
        )

    return pipeline


def fine_pruning_sweep(settings: Settings) -> BaseComponent:
    """The pipeline of many runs, side by side, and one table of what they measured.

    It promotes nothing: the best of many tries is promoted by luck, and the gate's thresholds are for one
    model that was delivered.

    Args:
        settings: of the cluster; ``sweep`` says which runs are the default.
    """
    sweep = settings.sweep
    default = parameters.sweep_runs(sweep.cases, sweep.attacks, sweep.seeds)

    @dsl.pipeline(name="fine-pruning-sweep", display_name="Fine-pruning: sweep")
    def pipeline(runs: list[dict[str, Section]] = default) -> None:
        """Fine-prune under many cases, attacks and seeds, and collect what was measured in one table.

        Args:
            runs: the parameters of each run: the sections of ingest to evaluate, source, revision, data_md5.
        """
        with dsl.ParallelFor(items=runs, name="runs", parallelism=sweep.parallelism) as run:
            sections = {name: getattr(run, name) for name in parameters.SECTIONS if name != "promote"}
            texts = {name: getattr(run, name) for name in ("source", "revision", "data_md5")}
            for channel in texts.values():
                channel.channel_type = "String"  # of a mixed dict, kfp takes every value for a dict
            tasks = _measure(settings, sections, **texts)
        _task(settings, "tabulate", rows=dsl.Collected(tasks["evaluate"].outputs["row"]))

    return pipeline


def _measure(
    settings: Settings, sections: Mapping[str, Any], *, source: str, revision: str, data_md5: str
) -> Tasks:
    """Add every stage up to evaluate; the tasks by stage, or by ``stage.model`` where a stage has several."""
    task = partial(_task, settings)
    ingest = task("ingest", params=sections["ingest"], source=source, revision=revision, data_md5=data_md5)
    dataset = ingest.outputs["dataset"]
    attack = task("attack", params=sections["attack"], dataset=dataset)
    delivered = {name: attack.outputs[name] for name in ("undefended", "control")}
    profile = {
        name: task("profile", name, params=sections["profile"], dataset=dataset, model=model)
        for name, model in delivered.items()
    }
    profiles = {name: task.outputs["profile"] for name, task in profile.items()}
    prune = {
        name: task(
            "prune", name, params=sections["prune"], dataset=dataset, model=model, profile=profiles[name]
        )
        for name, model in delivered.items()
    }
    pruned = {name: task.outputs["pruned"] for name, task in prune.items()}
    untuned = {
        "fine_tuned": delivered["undefended"],
        "fine_pruned": pruned["undefended"],
        "control_fine_pruned": pruned["control"],
    }
    finetune = {
        name: task("finetune", name, params=sections["finetune"], dataset=dataset, model=model)
        for name, model in untuned.items()
    }
    tuned = {name: task.outputs["tuned"] for name, task in finetune.items()}
    evaluate = task(
        "evaluate",
        params=sections["evaluate"],
        dataset=dataset,
        attack=attack.outputs["attack"],
        profile=profiles["undefended"],
        pruned=pruned["undefended"],
        control_pruned=pruned["control"],
        **delivered,
        **tuned,
    )
    return {
        "ingest": ingest,
        "attack": attack,
        **{f"profile.{name}": task for name, task in profile.items()},
        **{f"prune.{name}": task for name, task in prune.items()},
        **{f"finetune.{name}": task for name, task in finetune.items()},
        "evaluate": evaluate,
    }


def _promote(settings: Settings, tasks: Tasks, **arguments: Any) -> None:
    """Add promote, with the evidence of every task before it."""
    report = {name: task.outputs["report"] for name, task in tasks.items()}
    _task(
        settings,
        "promote",
        # In a command the backend would not replace the placeholder, in a parameter it does.
        run_id=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
        dataset=tasks["ingest"].outputs["dataset"],
        fine_tuned=tasks["finetune.fine_tuned"].outputs["tuned"],
        fine_pruned=tasks["finetune.fine_pruned"].outputs["tuned"],
        ingest_report=report["ingest"],
        attack_report=report["attack"],
        profile_report=report["profile.undefended"],
        prune_report=report["prune.undefended"],
        control_profile_report=report["profile.control"],
        control_prune_report=report["prune.control"],
        fine_tuned_report=report["finetune.fine_tuned"],
        fine_pruned_report=report["finetune.fine_pruned"],
        control_fine_pruned_report=report["finetune.control_fine_pruned"],
        evaluation=report["evaluate"],
        **arguments,
    )


def _task(settings: Settings, stage: str, of: str | None = None, **arguments: Any) -> dsl.PipelineTask:
    """Add the task of a stage; ``of`` names the model where the stage has several tasks."""
    task = COMPONENTS[stage](**arguments)
    task.set_display_name(f"{stage} · {of.replace('_', ' ')}" if of else stage)
    resources.apply(task, stage, settings)
    return task

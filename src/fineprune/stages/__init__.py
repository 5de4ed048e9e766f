"""The stages of the pipeline, one program each: read files, call the library, write files.

The module of each holds its :class:`fineprune.stages.base.Stage`, named ``STAGE``. This table is all that
the command line needs to answer ``--help``.
"""

STAGES = {
    "ingest": "validate and convert a source into a dataset, split by group",
    "attack": "poison and train the attacker's model beside a never-poisoned control",
    "profile": "measure each channel's activation on the defender's clean data",
    "prune": "remove the least active channels while clean accuracy holds",
    "finetune": "continue training on the defender's clean data",
    "evaluate": "measure clean accuracy, backdoor success and utility of every model",
    "promote": "decide, register the model with its evidence, move the alias on a pass",
    "tabulate": "collect the evaluations of several pipeline runs in one table",
}

FIRST = ("ingest", "attack")
"""Those that a pipeline run begins with: they check the sections of all others too, before hours of work."""

BATCHED = ("attack", "profile", "prune", "finetune", "evaluate")
"""Those that compute in batches, on an accelerator where there is one."""

"""The Kubeflow graph of the stages: compile, submit, local run, cluster preflight."""

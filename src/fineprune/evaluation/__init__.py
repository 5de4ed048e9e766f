"""What is left of the backdoor, and of the accuracy: metrics, their intervals, checks and the report."""

"""What is left of the backdoor, and of the accuracy: metrics, their intervals, and checks."""

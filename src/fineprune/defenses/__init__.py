"""The defence: profile, rank, curve and stop rule, surgery, fine-tuning. None of it sees the attack."""

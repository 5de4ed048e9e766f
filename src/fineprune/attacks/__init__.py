"""Backdoor attacks: trigger, label policy, poisoning, and the attack as it is kept on disk."""

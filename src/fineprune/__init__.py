"""Fine-pruning of backdoored networks (Liu, Dolan-Gavitt, Garg, RAID 2018), with measured evidence."""

__version__ = "0.1.0"

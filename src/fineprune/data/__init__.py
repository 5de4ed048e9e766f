"""Datasets on disk: the format, its readers and its splits."""

"""What people see of a run: figures, tables and pages."""

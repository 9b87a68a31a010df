"""What people read: reports, plots, tables as text, model cards."""

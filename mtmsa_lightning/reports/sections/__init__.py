"""The sections of a report: each makes plots, writes tables, and adds both to the page, if it has labels."""

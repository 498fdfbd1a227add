"""Report of a sweep: tables, plots and a page."""

"""What a sweep ends with: tables, plots and a page."""

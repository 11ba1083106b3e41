"""Reports: what the runs of a comparison say, as HTML, Markdown, LaTeX and CSV."""

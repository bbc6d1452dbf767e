"""Result files of a study for readers: tables, plots and the HTML report."""

"""Pure functions from records to plotly figures and table rows."""

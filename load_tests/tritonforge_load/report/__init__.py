"""What is shown and written of a result: tables, progress, CSV, JUnit, and a page with plots."""
